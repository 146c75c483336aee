"""The methods of ndarray on traced arrays: NumPy's functions with the array as first argument."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import Limitation, UsageTypeError
from ..ir.node import Node, call
from .aliasing import check_unshared, rebind
from .convert import WEAK, as_array, cast, spread, spread_number
from .handle import Handle, array_of
from .missing import unsupported
from .registry import NUMPY_FUNCTIONS

_NOT_GIVEN = np._NoValue


def _numpy(function, *args, **kwargs):
    """NumPy's `function`, as implemented for traced arrays."""
    implementation = NUMPY_FUNCTIONS.get(function)
    if implementation is None:
        raise unsupported(function)
    return implementation(*args, **kwargs)


def _ufunc(ufunc: np.ufunc, x: Any):
    return ufunc(x)


def _given(**options) -> dict:
    return {name: value for name, value in options.items() if value is not _NOT_GIVEN}


class Methods(Handle):
    """Methods that delegate to the functions of the same name, with ndarray's signatures."""

    __slots__ = ()

    # --- reductions

    def sum(self, axis=None, dtype=None, out=None, keepdims=False, initial=_NOT_GIVEN, where=_NOT_GIVEN):
        return _reduced(np.sum, self, out, axis=axis, dtype=dtype, keepdims=keepdims, initial=initial, where=where)

    def prod(self, axis=None, dtype=None, out=None, keepdims=False, initial=_NOT_GIVEN, where=_NOT_GIVEN):
        return _reduced(np.prod, self, out, axis=axis, dtype=dtype, keepdims=keepdims, initial=initial, where=where)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False, *, where=_NOT_GIVEN):
        return _reduced(np.mean, self, out, axis=axis, dtype=dtype, keepdims=keepdims, where=where)

    def std(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=_NOT_GIVEN):
        return _reduced(np.std, self, out, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims, where=where)

    def var(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=_NOT_GIVEN):
        return _reduced(np.var, self, out, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims, where=where)

    def max(self, axis=None, out=None, keepdims=False, initial=_NOT_GIVEN, where=_NOT_GIVEN):
        return _reduced(np.max, self, out, axis=axis, keepdims=keepdims, initial=initial, where=where)

    def min(self, axis=None, out=None, keepdims=False, initial=_NOT_GIVEN, where=_NOT_GIVEN):
        return _reduced(np.min, self, out, axis=axis, keepdims=keepdims, initial=initial, where=where)

    def all(self, axis=None, out=None, keepdims=False, *, where=_NOT_GIVEN):
        return _reduced(np.all, self, out, axis=axis, keepdims=keepdims, where=where)

    def any(self, axis=None, out=None, keepdims=False, *, where=_NOT_GIVEN):
        return _reduced(np.any, self, out, axis=axis, keepdims=keepdims, where=where)

    def argmax(self, axis=None, out=None, *, keepdims=False):
        return _reduced(np.argmax, self, out, axis=axis, keepdims=keepdims)

    def argmin(self, axis=None, out=None, *, keepdims=False):
        return _reduced(np.argmin, self, out, axis=axis, keepdims=keepdims)

    def cumsum(self, axis=None, dtype=None, out=None):
        return _reduced(np.cumsum, self, out, axis=axis, dtype=dtype)

    def cumprod(self, axis=None, dtype=None, out=None):
        return _reduced(np.cumprod, self, out, axis=axis, dtype=dtype)

    def trace(self, offset=0, axis1=0, axis2=1, dtype=None, out=None):
        return _reduced(np.trace, self, out, offset=offset, axis1=axis1, axis2=axis2, dtype=dtype)

    # --- elements

    def clip(self, min=None, max=None, out=None):
        return _reduced(np.clip, self, out, a_min=min, a_max=max)

    def round(self, decimals=0, out=None):
        return _reduced(np.round, self, out, decimals=decimals)

    def conj(self):
        return _ufunc(np.conjugate, self)

    conjugate = conj

    def dot(self, b, out=None):
        _refuse_out(out)
        return _numpy(np.dot, self, b)

    # --- shape

    def reshape(self, *shape, order="C", copy=None):
        shape = shape[0] if len(shape) == 1 else shape
        result = _numpy(np.reshape, self, shape, order=order)
        return result.copy() if copy else result

    def transpose(self, *axes):
        return _numpy(np.transpose, self, axes[0] if len(axes) == 1 else axes or None)

    def ravel(self, order="C"):
        return _numpy(np.ravel, self, order=order)

    def flatten(self, order="C"):
        return _numpy(np.ravel, self, order=order).copy()

    def squeeze(self, axis=None):
        return _numpy(np.squeeze, self, axis=axis)

    def swapaxes(self, axis1, axis2):
        return _numpy(np.swapaxes, self, axis1, axis2)

    def diagonal(self, offset=0, axis1=0, axis2=1):
        return _numpy(np.diagonal, self, offset=offset, axis1=axis1, axis2=axis2)

    @property
    def T(self):
        return _numpy(np.transpose, self)

    @property
    def mT(self):
        if len(self.shape) < 2:
            raise UsageTypeError(f"mT needs at least two axes, the array has {len(self.shape)}")
        return _numpy(np.swapaxes, self, -1, -2)

    @property
    def real(self):
        return _numpy(np.real, self)

    @property
    def imag(self):
        return _numpy(np.imag, self)

    @property
    def flat(self):
        return iter(self.ravel())

    # --- selection and order

    def take(self, indices, axis=None, out=None, mode="raise"):
        return _reduced(np.take, self, out, indices=indices, axis=axis, mode=mode)

    def repeat(self, repeats, axis=None):
        return _numpy(np.repeat, self, repeats, axis=axis)

    def compress(self, condition, axis=None, out=None):
        _refuse_out(out)
        return _numpy(np.compress, condition, self, axis=axis)

    def nonzero(self):
        return _numpy(np.nonzero, self)

    def searchsorted(self, v, side="left", sorter=None):
        return _numpy(np.searchsorted, self, v, side=side, sorter=sorter)

    def argsort(self, axis=-1, kind=None, order=None, *, stable=None):
        return _numpy(np.argsort, self, axis=axis)

    def argpartition(self, kth, axis=-1, kind="introselect", order=None):
        return _numpy(np.argpartition, self, kth, axis=axis)

    def sort(self, axis=-1, kind=None, order=None, *, stable=None) -> None:
        """Sorts in place, as ndarray's: every name of this array sees it."""
        check_unshared(self)
        rebind(self, _numpy(np.sort, self, axis=axis).node)

    def fill(self, value) -> None:
        """Sets every element to the number `value`, in place."""
        check_unshared(self)
        rebind(self.checked(), full_of(value, self))

    # --- copies and plain values

    def copy(self, order="C"):
        """A new array of the same value: in-place operations on one do not touch the other."""
        return array_of(self.checked().node)

    def astype(self, dtype, order="K", casting="unsafe", subok=True, copy=True):
        """The array in `dtype`. UsageTypeError when `casting` forbids it."""
        return conversion(self.checked(), np.dtype(dtype), casting, copy)

    def item(self, *args):
        """One element as a traced Python number: it promotes as Python's numbers do."""
        return python_number(self.checked(), args)

    def tolist(self):
        """Nested lists of traced Python numbers."""
        return [part.tolist() for part in self.checked()] if self.shape else self.item()

    def __floor__(self):
        return _as_python_int(_ufunc(np.floor, self), "math.floor")

    def __ceil__(self):
        return _as_python_int(_ufunc(np.ceil, self), "math.ceil")

    def __trunc__(self):
        return _as_python_int(_ufunc(np.trunc, self), "math.trunc")

    def __round__(self, ndigits=None):
        return _as_python_int(_ufunc(np.rint, self), "round") if ndigits is None else self.round(ndigits)


def _reduced(function, x, out, **options):
    _refuse_out(out)
    return _numpy(function, x, **_given(**options))


def _refuse_out(out) -> None:
    if out is not None:
        raise UsageTypeError("out= of a traced array's method is not supported", "Assign the result: y = x.sum().")


def full_of(value, x: Handle) -> Node:
    """The node of the plain or traced number `value` at every place of x."""
    aval = x.node.aval
    if type(value) in WEAK:
        return spread_number(value, aval.dtype, aval.shape)
    node = as_array(value).node
    if node.aval.shape:
        raise UsageTypeError("fill() takes one number, not an array")
    return spread(cast(node, aval.dtype), aval.shape)


def conversion(x, dtype: np.dtype, casting: Any, copy: bool):
    """`x.astype(dtype)`."""
    have = x.node.aval.dtype
    if dtype.kind not in "biuf" or not dtype.isnative:
        raise UsageTypeError(f"a traced array cannot be converted to {dtype}", "Use bool, int or float dtypes.")
    if not np.can_cast(have, dtype, casting):
        raise UsageTypeError(f"cannot cast from {have} to {dtype} according to the rule {casting!r}")
    if have == dtype:
        return array_of(x.node) if copy else x
    return array_of(cast(x.node, dtype))


_PYTHON_TYPES = {"b": bool, "i": int, "u": int, "f": float}


def python_number(x, place: tuple):
    """`x.item(*place)` as a weak 0-d value."""
    dtype = x.node.aval.dtype
    if dtype == np.uint64:
        raise Limitation("item() of a traced uint64 array is not supported", "Use x[i], or x.astype(np.int64) first.")
    if not place:
        if x.node.aval.size != 1:
            raise UsageTypeError("item() without an index needs an array with one element", "Use x.item(i) or x[i].")
        node = x.node if not x.shape else call("reshape", x.node, shape=())
    else:
        place = place[0] if len(place) == 1 else place
        node = (x[place] if isinstance(place, tuple) else x.ravel()[place]).node
    weak = _PYTHON_TYPES[dtype.kind]
    return array_of(cast(node, WEAK[weak]), weak)


def _as_python_int(x, name: str):
    if x.shape:
        raise UsageTypeError(f"{name}() takes one number, not an array of shape {x.shape}", "Use NumPy's function.")
    return array_of(cast(x.node, WEAK[int]), int)
