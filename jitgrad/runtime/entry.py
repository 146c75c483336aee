"""The native entry: a Python function made of machine code that checks its arguments, runs a plan, and makes the results.

A call through `Executable.__call__` costs some microseconds of Python; this one costs a few hundred nanoseconds. It
accepts exactly what it was made for (types, dtypes, shapes, C order) and answers `NotImplemented` to everything else,
and where the native code reported an error, so that the caller goes the long way, which knows how to complain.

It is generic machine code, compiled once per process, that reads a record of 64-bit words per program:

    inputs, outputs, program, private memory, arena bytes, kept arena, release the GIL?, memory handler for results or 0,
    then per input   type, dtype (0: a scalar object), ndim, extents...
    then per output  dtype, ndim, extents...

It relies on the layouts of CPython's and NumPy's objects that their C headers publish (PyObject, PyFloatObject,
PyArrayObject_fields); they are checked against live objects before the first use, and without a match there is no
native entry.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np

from ..backends.cpu.control import STOPPED
from ..backends.cpu.driver import DRIVER_SYMBOL, driver_source
from . import machine
from .kept import compiled_text
from .result_memory import numpy_api

KEPT_ARENA = 5            # index in the record of the arena that is kept between calls
_HEADER = 8
_VALUE = 16               # bytes from the start of a float object, or NumPy scalar, to its value
_DATA, _NDIM, _DIMS, _DESCR, _FLAGS = 16, 24, 32, 56, 64  # of an array object
_ORDER = 0x101            # NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED
_KEEP_BYTES = 1 << 28     # larger arenas are given back after each call
_ALIGN = 64

_ENTRY = "jg.entry"
_IMPORTED = {  # symbol -> signature
    "PyEval_SaveThread": "ptr ()",
    "PyEval_RestoreThread": "void (ptr)",
    "PyTuple_New": "ptr (i64)",
    "Py_DecRef": "void (ptr)",
    "Py_IncRef": "void (ptr)",
    "malloc": "ptr (i64)",
    "free": "void (ptr)",
    "jg.PyArray_NewFromDescr": "ptr (ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)",
    "jg.PyArray_Scalar": "ptr (ptr, ptr, ptr)",
    "jg.PyDataMem_SetHandler": "ptr (ptr)",
}
_OBJECTS = ("jg.array_type", "jg.not_implemented")


def input_words(kind: type, dtype: np.dtype, shape: tuple[int, ...]) -> list[int]:
    """What the record says of one input: an ndarray, or an object of a scalar type (float, np.float64, ...)."""
    if kind is np.ndarray:
        return [id(np.ndarray), _dtype_address(dtype), len(shape), *shape]
    return [id(kind), 0, 0]


def _dtype_address(dtype: np.dtype) -> int:
    """The address of the one object that arrays of this dtype ordinarily share; it is never freed."""
    return id(np.dtype(dtype.type))


def output_words(dtype: np.dtype, shape: tuple[int, ...]) -> list[int]:
    return [_dtype_address(dtype), len(shape), *shape]


def record(
    inputs: list[list[int]], outputs: list[list[int]], program: int, private: int, arena: int, release_gil: bool, handler: int
) -> np.ndarray:
    """The record of a program: the address of what the driver reads, where in the arena the threads' private memory begins,
    the bytes of the arena with it, and the address of the memory handler that large results are to be made with."""
    head = [len(inputs), len(outputs), program, private, arena + _ALIGN, 0, int(release_gil), handler]
    return np.array([*head, *(word for words in (*inputs, *outputs) for word in words)], np.int64)


def free_kept_arena(words: np.ndarray) -> None:
    """Gives back the arena of a record that nobody calls any more."""
    address, words[KEPT_ARENA] = int(words[KEPT_ARENA]), 0
    if address:
        _libc().free(ctypes.c_void_p(address))


def native_function(words: np.ndarray):
    """A builtin function `f(*arguments)` for the record, or None on an interpreter whose objects are laid out otherwise."""
    with machine.LOCK:  # the code and the method are made once, and must never be freed
        method = _method()
    if method is None:
        return None
    function = ctypes.pythonapi.PyCFunction_NewEx
    function.restype, function.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return function(ctypes.addressof(method), words, None)


class _Method(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = [("name", ctypes.c_char_p), ("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


_FASTCALL = 0x80


@lru_cache(maxsize=1)
def _method() -> _Method | None:
    code = _entry_code()
    return None if code is None else _Method(b"jitgrad_entry", code.addresses[_ENTRY], _FASTCALL, None)


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@lru_cache(maxsize=1)
def _entry_code() -> machine.Code | None:
    if not _layouts_hold():
        return None
    api = numpy_api()
    symbols = {name: machine.address_of(getattr(ctypes.pythonapi, name)) for name in _IMPORTED if name[:2] == "Py"}
    symbols |= {name: machine.address_of(getattr(_libc(), name)) for name in ("malloc", "free")}
    symbols |= {"jg.PyArray_NewFromDescr": api[94], "jg.PyArray_Scalar": api[60], "jg.PyDataMem_SetHandler": api[304]}
    symbols |= {"jg.array_type": id(np.ndarray), "jg.not_implemented": id(NotImplemented)}
    for name, address in symbols.items():
        machine.provide(name, address)
    return compiled_text(entry_source(), [_ENTRY])


def _layouts_hold() -> bool:
    """Whether live objects look as the offsets above say."""

    def word(address: int, offset: int, kind=ctypes.c_int64) -> int:
        return kind.from_address(address + offset).value

    probe = np.zeros((3, 5))
    at = id(probe)
    return (
        ctypes.sizeof(ctypes.c_void_p) == 8
        and word(at, 8) == id(np.ndarray)
        and word(at, _DATA) == probe.ctypes.data
        and word(at, _NDIM, ctypes.c_int) == 2
        and [word(word(at, _DIMS), 8 * k) for k in (0, 1)] == [3, 5]
        and word(at, _DESCR) == id(probe.dtype)
        and word(at, _FLAGS, ctypes.c_int) & _ORDER == _ORDER
        and word(id(number := 2.5), _VALUE, ctypes.c_double) == number
        and word(id(scalar := np.float64(3.5)), _VALUE, ctypes.c_double) == scalar
        and word(id(single := np.float32(1.5)), _VALUE, ctypes.c_float) == single
        and word(id(pair := (1, 2)), 24) == id(pair[0])
    )


def entry_source() -> str:
    """`PyObject *jg.entry(record array, arguments, count)` as LLVM IR."""
    declarations = []
    for name, signature in _IMPORTED.items():
        result, arguments = signature.split(" ", 1)
        declarations.append(f"declare {result} @{name}{arguments}")
    objects = [f"@{name} = external global i8" for name in _OBJECTS]
    return "\n".join([*objects, *declarations, driver_source().replace("define ", "define internal "), _ENTRY_IR])


_ENTRY_IR = f"""
; puts back the memory handler that was in force before large results were made, if it was changed
define internal void @jg.restore(ptr %slot) {{
  %before = load ptr, ptr %slot
  %changed = icmp ne ptr %before, null
  br i1 %changed, label %put, label %done
put:
  %ours = call ptr @jg.PyDataMem_SetHandler(ptr %before)
  call void @Py_DecRef(ptr %ours)
  call void @Py_DecRef(ptr %before)
  store ptr null, ptr %slot
  br label %done
done:
  ret void
}}

define ptr @{_ENTRY}(ptr %self, ptr %arguments, i64 %count) {{
entry:
  %rp = getelementptr i8, ptr %self, i64 {_DATA}
  %record = load ptr, ptr %rp
  %inputs = load i64, ptr %record
  %op = getelementptr i64, ptr %record, i64 1
  %outputs = load i64, ptr %op
  %k = alloca i64
  %at = alloca i64
  %d = alloca i64
  %made = alloca i64
  %raising = alloca i1
  store i64 0, ptr %k
  store i64 {_HEADER}, ptr %at
  store i64 0, ptr %made
  store i1 false, ptr %raising
  %handler = alloca ptr
  store ptr null, ptr %handler
  %slots1 = add i64 %inputs, %outputs
  %slots = add i64 %slots1, 2
  %bases = alloca ptr, i64 %slots
  %results = alloca ptr, i64 %slots
  %numbers = alloca <2 x i64>, i64 %slots
  %right = icmp eq i64 %count, %inputs
  br i1 %right, label %input, label %refuse

; --- arguments: type, then for arrays dtype, rank, order and extents
input:
  %k0 = load i64, ptr %k
  %more = icmp slt i64 %k0, %inputs
  br i1 %more, label %check, label %prepare
check:
  %at0 = load i64, ptr %at
  %wp = getelementptr i64, ptr %record, i64 %at0
  %type = load ptr, ptr %wp
  %dp = getelementptr i64, ptr %wp, i64 1
  %descr = load ptr, ptr %dp
  %np = getelementptr i64, ptr %wp, i64 2
  %ndim = load i64, ptr %np
  %ap = getelementptr ptr, ptr %arguments, i64 %k0
  %argument = load ptr, ptr %ap
  %tp = getelementptr i8, ptr %argument, i64 8
  %itstype = load ptr, ptr %tp
  %sametype = icmp eq ptr %itstype, %type
  br i1 %sametype, label %typed, label %refuse
typed:
  %isscalar = icmp eq ptr %descr, null
  br i1 %isscalar, label %scalar, label %array
scalar:
  %value = getelementptr i8, ptr %argument, i64 {_VALUE}
  br label %accept
array:
  %itsdescrp = getelementptr i8, ptr %argument, i64 {_DESCR}
  %itsdescr = load ptr, ptr %itsdescrp
  %samedescr = icmp eq ptr %itsdescr, %descr
  %flagsp = getelementptr i8, ptr %argument, i64 {_FLAGS}
  %flags = load i32, ptr %flagsp
  %order = and i32 %flags, {_ORDER}
  %ordered = icmp eq i32 %order, {_ORDER}
  %itsndimp = getelementptr i8, ptr %argument, i64 {_NDIM}
  %itsndim32 = load i32, ptr %itsndimp
  %itsndim = sext i32 %itsndim32 to i64
  %samendim = icmp eq i64 %itsndim, %ndim
  %fit1 = and i1 %samedescr, %ordered
  %fit = and i1 %fit1, %samendim
  %dimsp = getelementptr i8, ptr %argument, i64 {_DIMS}
  %dims = load ptr, ptr %dimsp
  store i64 0, ptr %d
  br i1 %fit, label %extent, label %refuse
extent:
  %d0 = load i64, ptr %d
  %moredims = icmp slt i64 %d0, %ndim
  br i1 %moredims, label %compare, label %isarray
compare:
  %hasp = getelementptr i64, ptr %dims, i64 %d0
  %has = load i64, ptr %hasp
  %d1 = add i64 %d0, 1
  store i64 %d1, ptr %d
  %w3 = add i64 %d0, 3
  %wantsp = getelementptr i64, ptr %wp, i64 %w3
  %wants = load i64, ptr %wantsp
  %samedim = icmp eq i64 %has, %wants
  br i1 %samedim, label %extent, label %refuse
isarray:
  %datap = getelementptr i8, ptr %argument, i64 {_DATA}
  %data = load ptr, ptr %datap
  br label %accept
accept:
  %address = phi ptr [ %value, %scalar ], [ %data, %isarray ]
  %bp = getelementptr ptr, ptr %bases, i64 %k0
  store ptr %address, ptr %bp
  %k1 = add i64 %k0, 1
  store i64 %k1, ptr %k
  %at1 = add i64 %at0, 3
  %at2 = add i64 %at1, %ndim
  store i64 %at2, ptr %at
  br label %input

; --- results: arrays are made now, scalars after the run from a slot on the stack
prepare:
  %firstout = load i64, ptr %at
  %handlerp = getelementptr i64, ptr %record, i64 7
  %ours = load ptr, ptr %handlerp
  %large = icmp ne ptr %ours, null
  br i1 %large, label %change, label %output
change:
  %before = call ptr @jg.PyDataMem_SetHandler(ptr %ours)
  store ptr %before, ptr %handler
  %nobefore = icmp eq ptr %before, null
  br i1 %nobefore, label %nomemory, label %output
output:
  %m0 = load i64, ptr %made
  %moreout = icmp slt i64 %m0, %outputs
  br i1 %moreout, label %make, label %arena
make:
  %o0 = load i64, ptr %at
  %owp = getelementptr i64, ptr %record, i64 %o0
  %odescr = load ptr, ptr %owp
  %onp = getelementptr i64, ptr %owp, i64 1
  %ondim = load i64, ptr %onp
  %o2 = add i64 %o0, 2
  %o3 = add i64 %o2, %ondim
  store i64 %o3, ptr %at
  %obi = add i64 %inputs, %m0
  %obp = getelementptr ptr, ptr %bases, i64 %obi
  %orp = getelementptr ptr, ptr %results, i64 %m0
  %onumber = icmp eq i64 %ondim, 0
  br i1 %onumber, label %makenumber, label %makearray
makenumber:
  %slot = getelementptr <2 x i64>, ptr %numbers, i64 %m0
  store ptr %slot, ptr %obp
  store ptr null, ptr %orp
  br label %madeone
makearray:
  call void @Py_IncRef(ptr %odescr)
  %odims = getelementptr i64, ptr %owp, i64 2
  %ondim32 = trunc i64 %ondim to i32
  %new = call ptr @jg.PyArray_NewFromDescr(
    ptr @jg.array_type, ptr %odescr, i32 %ondim32, ptr %odims, ptr null, ptr null, i32 0, ptr null)
  store ptr %new, ptr %orp
  %failed = icmp eq ptr %new, null
  br i1 %failed, label %nomemory, label %madearray
madearray:
  %newdatap = getelementptr i8, ptr %new, i64 {_DATA}
  %newdata = load ptr, ptr %newdatap
  store ptr %newdata, ptr %obp
  br label %madeone
madeone:
  %m1 = add i64 %m0, 1
  store i64 %m1, ptr %made
  br label %output

; --- the arena: the kept one is taken by exchange, so that it belongs to this call alone
arena:
  call void @jg.restore(ptr %handler)
  %keptp = getelementptr i64, ptr %record, i64 {KEPT_ARENA}
  %sizep = getelementptr i64, ptr %record, i64 4
  %size = load i64, ptr %sizep
  %kept = atomicrmw xchg ptr %keptp, i64 0 seq_cst
  %none = icmp eq i64 %kept, 0
  br i1 %none, label %fresh, label %reuse
fresh:
  %fresharena = call ptr @malloc(i64 %size)
  %nofresh = icmp eq ptr %fresharena, null
  br i1 %nofresh, label %noarena, label %run
reuse:
  %keptarena = inttoptr i64 %kept to ptr
  br label %run
run:
  %arenap = phi ptr [ %fresharena, %fresh ], [ %keptarena, %reuse ]
  %arenai = ptrtoint ptr %arenap to i64
  %up = add i64 %arenai, {_ALIGN - 1}
  %aligned = and i64 %up, -{_ALIGN}
  %abi = add i64 %inputs, %outputs
  %abp = getelementptr ptr, ptr %bases, i64 %abi
  store i64 %aligned, ptr %abp
  %privatep = getelementptr i64, ptr %record, i64 3
  %privateat = load i64, ptr %privatep
  %private = add i64 %aligned, %privateat
  %pbp = getelementptr ptr, ptr %abp, i64 1
  store i64 %private, ptr %pbp
  %programp = getelementptr i64, ptr %record, i64 2
  %program = load ptr, ptr %programp
  %gilp = getelementptr i64, ptr %record, i64 6
  %gil = load i64, ptr %gilp
  %release = icmp ne i64 %gil, 0
  br i1 %release, label %without, label %with
with:
  %status1 = call i64 @{DRIVER_SYMBOL}(ptr %bases, ptr %program)
  br label %ran
without:
  %thread = call ptr @PyEval_SaveThread()
  %status2 = call i64 @{DRIVER_SYMBOL}(ptr %bases, ptr %program)
  call void @PyEval_RestoreThread(ptr %thread)
  br label %ran
ran:
  %status = phi i64 [ %status1, %with ], [ %status2, %without ]
  %keep = icmp sle i64 %size, {_KEEP_BYTES}
  br i1 %keep, label %keepit, label %freeit
keepit:
  %unused = atomicrmw xchg ptr %keptp, i64 %arenai seq_cst
  %unusedp = inttoptr i64 %unused to ptr
  call void @free(ptr %unusedp)
  br label %kept2
freeit:
  call void @free(ptr %arenap)
  br label %kept2
kept2:
  %bad = icmp ne i64 %status, 0
  %reason = and i64 %status, 255
  %stopped = icmp eq i64 %reason, {STOPPED}
  store i1 %stopped, ptr %raising
  store i64 %firstout, ptr %at
  store i64 0, ptr %k
  br i1 %bad, label %drop, label %number

; --- scalar results
number:
  %n0 = load i64, ptr %k
  %morenumbers = icmp slt i64 %n0, %outputs
  br i1 %morenumbers, label %wrap, label %finish
wrap:
  %p0 = load i64, ptr %at
  %pwp = getelementptr i64, ptr %record, i64 %p0
  %pdescr = load ptr, ptr %pwp
  %pnp = getelementptr i64, ptr %pwp, i64 1
  %pndim = load i64, ptr %pnp
  %p2 = add i64 %p0, 2
  %p3 = add i64 %p2, %pndim
  store i64 %p3, ptr %at
  %n1 = add i64 %n0, 1
  store i64 %n1, ptr %k
  %pnumber = icmp eq i64 %pndim, 0
  br i1 %pnumber, label %wrapnumber, label %number
wrapnumber:
  %pslot = getelementptr <2 x i64>, ptr %numbers, i64 %n0
  %object = call ptr @jg.PyArray_Scalar(ptr %pslot, ptr %pdescr, ptr null)
  %prp = getelementptr ptr, ptr %results, i64 %n0
  store ptr %object, ptr %prp
  %noobject = icmp eq ptr %object, null
  br i1 %noobject, label %nomemory, label %number

; --- one result as it is, several in a tuple
finish:
  %single = icmp eq i64 %outputs, 1
  br i1 %single, label %one, label %several
one:
  %only = load ptr, ptr %results
  ret ptr %only
several:
  %tuple = call ptr @PyTuple_New(i64 %outputs)
  %notuple = icmp eq ptr %tuple, null
  store i64 0, ptr %k
  br i1 %notuple, label %nomemory, label %put
put:
  %t0 = load i64, ptr %k
  %moreitems = icmp slt i64 %t0, %outputs
  br i1 %moreitems, label %putone, label %whole
putone:
  %trp = getelementptr ptr, ptr %results, i64 %t0
  %item = load ptr, ptr %trp
  %tip = getelementptr ptr, ptr %tuple, i64 %t0
  %tip3 = getelementptr ptr, ptr %tip, i64 3
  store ptr %item, ptr %tip3
  %t1 = add i64 %t0, 1
  store i64 %t1, ptr %k
  br label %put
whole:
  ret ptr %tuple

; --- no memory: an exception is set; otherwise it is not ours to answer. Either way nothing is left behind
nomemory:
  call void @jg.restore(ptr %handler)
  store i1 true, ptr %raising
  br label %drop
noarena:
  br label %drop
drop:
  %x0 = load i64, ptr %made
  %left = icmp sgt i64 %x0, 0
  br i1 %left, label %dropone, label %dropped
dropone:
  %x1 = sub i64 %x0, 1
  store i64 %x1, ptr %made
  %xrp = getelementptr ptr, ptr %results, i64 %x1
  %old = load ptr, ptr %xrp
  call void @Py_DecRef(ptr %old)
  br label %drop
dropped:
  %failure = load i1, ptr %raising
  br i1 %failure, label %raise, label %refuse
raise:
  ret ptr null
refuse:
  call void @Py_IncRef(ptr @jg.not_implemented)
  ret ptr @jg.not_implemented
}}
"""
