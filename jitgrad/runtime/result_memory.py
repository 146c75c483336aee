"""Memory of large results: kept when an array is dropped, and given to the next result of that size.

Fresh pages cost as much as the computation that fills them: the system must clear each before it is first written. In a
loop that drops its results (gradients in an optimiser), the same few blocks serve again and again. This is a NumPy memory
handler (NEP 49), in force only while results are made: the arrays own their memory like any others, and when they go
the handler's `free` takes it. All of it runs under the GIL. What is kept is bounded, and the oldest block goes first.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from functools import lru_cache
from math import prod

import numpy as np

from . import machine
from .kept import compiled_text

LARGE = 1 << 20         # bytes of a result from which its memory is worth keeping
MOST_KEPT = 1 << 28    # bytes of all blocks that are kept
_BLOCKS = 16
# Bytes from which large pages are asked for, as NumPy does on Linux (MADV_HUGEPAGE).
_HUGE, _ADVICE = (1 << 22, 14) if sys.platform == "linux" else (1 << 62, 0)

_SYMBOLS = ("jg.memory.malloc", "jg.memory.calloc", "jg.memory.realloc", "jg.memory.free")


_HAS_GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")


class _Allocator(ctypes.Structure):
    """NumPy's PyDataMemAllocator."""

    _fields_ = [("context", ctypes.c_void_p), *((name, ctypes.c_void_p) for name in ("malloc", "calloc", "realloc", "free"))]


class _Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler, version 1."""

    _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", _Allocator)]


def is_large(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether a result's memory is worth keeping. Never without the GIL, which guards the blocks."""
    return _HAS_GIL and prod(shape) * dtype.itemsize >= LARGE


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """`np.empty`, in kept memory where it is large."""
    if not is_large(shape, dtype):
        return np.empty(shape, dtype)
    set_handler = _set_handler()
    before = set_handler(handler_capsule())
    try:
        return np.empty(shape, dtype)
    finally:
        set_handler(before)


@lru_cache(maxsize=1)
def _set_handler():
    """NumPy's PyDataMem_SetHandler, which gives back the handler that was in force."""
    return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(numpy_api()[304])


@lru_cache(maxsize=1)
def numpy_api():
    """NumPy's table of C functions."""
    capsule = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined]
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.cast(get(capsule, None), ctypes.POINTER(ctypes.c_void_p))


@lru_cache(maxsize=1)
def handler_capsule():
    """The handler as NumPy takes it (a capsule named "mem_handler"). It must never be freed, nor may its code."""
    library = ctypes.CDLL(None)
    for name in ("malloc", "calloc", "realloc", "free", "madvise"):
        machine.provide(name, machine.address_of(getattr(library, name)))
    code = compiled_text(_SOURCE, _SYMBOLS)
    handler = _Handler(b"jitgrad_results", 1, _Allocator(None, *(code.addresses[symbol] for symbol in _SYMBOLS)))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    capsule = new(ctypes.addressof(handler), b"mem_handler", None)
    for kept in (code, code.library, handler, capsule):  # arrays may go after everything else has, at the very end
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    return capsule


_SOURCE = f"""
@jg.memory.blocks = internal global [{_BLOCKS} x {{ ptr, i64 }}] zeroinitializer
@jg.memory.oldest = internal global i64 0
@jg.memory.kept = internal global i64 0
declare ptr @malloc(i64)
declare ptr @calloc(i64, i64)
declare ptr @realloc(ptr, i64)
declare void @free(ptr)
declare i32 @madvise(ptr, i64, i32)

; a kept block of just this size, else a new one
define ptr @jg.memory.malloc(ptr %context, i64 %size) {{
entry:
  %large = icmp uge i64 %size, {LARGE}
  br i1 %large, label %look, label %new
look:
  %k = phi i64 [ 0, %entry ], [ %next, %other ]
  %block = getelementptr {{ ptr, i64 }}, ptr @jg.memory.blocks, i64 %k
  %sizep = getelementptr {{ ptr, i64 }}, ptr %block, i64 0, i32 1
  %its = load i64, ptr %sizep
  %same = icmp eq i64 %its, %size
  br i1 %same, label %take, label %other
other:
  %next = add i64 %k, 1
  %more = icmp ult i64 %next, {_BLOCKS}
  br i1 %more, label %look, label %new
take:
  %found = load ptr, ptr %block
  store {{ ptr, i64 }} zeroinitializer, ptr %block
  %kept = load i64, ptr @jg.memory.kept
  %left = sub i64 %kept, %size
  store i64 %left, ptr @jg.memory.kept
  ret ptr %found
new:
  %fresh = call ptr @malloc(i64 %size)
  %huge = icmp uge i64 %size, {_HUGE}
  %there = icmp ne ptr %fresh, null
  %advise = and i1 %huge, %there
  br i1 %advise, label %ask, label %done
ask:
  %address = ptrtoint ptr %fresh to i64
  %up = add i64 %address, 4095
  %page = and i64 %up, -4096
  %pagep = inttoptr i64 %page to ptr
  %skipped = sub i64 %page, %address
  %rest = sub i64 %size, %skipped
  %ignored = call i32 @madvise(ptr %pagep, i64 %rest, i32 {_ADVICE})
  br label %done
done:
  ret ptr %fresh
}}

define ptr @jg.memory.calloc(ptr %context, i64 %count, i64 %size) {{
  %new = call ptr @calloc(i64 %count, i64 %size)
  ret ptr %new
}}

define ptr @jg.memory.realloc(ptr %context, ptr %old, i64 %size) {{
  %new = call ptr @realloc(ptr %old, i64 %size)
  ret ptr %new
}}

; the block is kept in place of the oldest; while too much is kept, older ones go
define void @jg.memory.free(ptr %context, ptr %old, i64 %size) {{
entry:
  %least = icmp uge i64 %size, {LARGE}
  %most = icmp ule i64 %size, {MOST_KEPT}
  %fits = and i1 %least, %most
  %there = icmp ne ptr %old, null
  %keep = and i1 %fits, %there
  br i1 %keep, label %evict, label %release
release:
  call void @free(ptr %old)
  ret void
evict:
  %n = phi i64 [ 0, %entry ], [ %n1, %again ]
  %at = load i64, ptr @jg.memory.oldest
  %block = getelementptr {{ ptr, i64 }}, ptr @jg.memory.blocks, i64 %at
  %sizep = getelementptr {{ ptr, i64 }}, ptr %block, i64 0, i32 1
  %older = load ptr, ptr %block
  %its = load i64, ptr %sizep
  call void @free(ptr %older)
  store {{ ptr, i64 }} zeroinitializer, ptr %block
  %kept = load i64, ptr @jg.memory.kept
  %less = sub i64 %kept, %its
  %sum = add i64 %less, %size
  %next = add i64 %at, 1
  %wrapped = urem i64 %next, {_BLOCKS}
  store i64 %wrapped, ptr @jg.memory.oldest
  %over = icmp ugt i64 %sum, {MOST_KEPT}
  br i1 %over, label %again, label %put
again:
  store i64 %less, ptr @jg.memory.kept
  %n1 = add i64 %n, 1
  br label %evict
put:
  store ptr %old, ptr %block
  store i64 %size, ptr %sizep
  store i64 %sum, ptr @jg.memory.kept
  ret void
}}
"""
