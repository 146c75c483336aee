"""The traced array: what a traced function holds in place of an ndarray. A thin mutable handle over a node."""

from __future__ import annotations

import numpy as np

from ..errors import UsageTypeError
from .calls import operation
from .handle import made_by_array_of
from .indexing import index
from .methods import Methods
from .missing import unsupported
from .operators import operate, operate_in_place, operate_one
from .refusals import Refusals
from .registry import NUMPY_FUNCTIONS
from .stores import set_item
from .ufuncs import array_ufunc, call_ufunc


def _binary(ufunc: np.ufunc, name: str):
    def operator(self, other):
        return operate(ufunc, self, other)

    return _called(operator, name)


def _reflected(ufunc: np.ufunc, name: str):
    def operator(self, other):
        return operate(ufunc, other, self)

    return _called(operator, name)


def _in_place(ufunc: np.ufunc, name: str):
    def operator(self, other):
        return operate_in_place(ufunc, self, other)

    return _called(operator, name)


def _unary(ufunc: np.ufunc, name: str):
    def operator(self):
        return operate_one(ufunc, self)

    return _called(operator, name)


def _called(function, name: str):
    function.__name__ = function.__qualname__ = f"__{name}__"
    return operation(function)


@made_by_array_of
class Array(Refusals, Methods):
    """A value inside a traced function: speaks NumPy, but its numbers are not known yet. See `Handle` for its state."""

    __slots__ = ()
    __array_priority__ = 1000

    # --- NumPy's protocols

    @operation
    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return array_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function, types, args, kwargs):
        implementation = NUMPY_FUNCTIONS.get(function)
        if implementation is None:
            raise unsupported(function)
        return implementation(*args, **kwargs)

    # --- a sequence

    def __len__(self) -> int:
        if not self.shape:
            raise UsageTypeError("len() of a 0-d value")
        return self.shape[0]

    def __iter__(self):
        if not self.shape:
            raise UsageTypeError("iteration over a 0-d value")
        return (self[k] for k in range(self.shape[0]))

    @operation
    def __getitem__(self, key):
        return index(self, key)

    @operation
    def __setitem__(self, key, value):
        set_item(self, key, value)

    def __copy__(self) -> Array:
        return Array(self.checked().node, self.weak)

    def __deepcopy__(self, memo) -> Array:
        return self.__copy__()

    # --- operators

    __add__, __radd__, __iadd__ = _binary(np.add, "add"), _reflected(np.add, "radd"), _in_place(np.add, "iadd")
    __sub__, __rsub__ = _binary(np.subtract, "sub"), _reflected(np.subtract, "rsub")
    __mul__, __rmul__ = _binary(np.multiply, "mul"), _reflected(np.multiply, "rmul")
    __truediv__, __rtruediv__ = _binary(np.divide, "truediv"), _reflected(np.divide, "rtruediv")
    __floordiv__, __rfloordiv__ = _binary(np.floor_divide, "floordiv"), _reflected(np.floor_divide, "rfloordiv")
    __mod__, __rmod__ = _binary(np.remainder, "mod"), _reflected(np.remainder, "rmod")
    __and__, __rand__ = _binary(np.bitwise_and, "and"), _reflected(np.bitwise_and, "rand")
    __or__, __ror__ = _binary(np.bitwise_or, "or"), _reflected(np.bitwise_or, "ror")
    __xor__, __rxor__ = _binary(np.bitwise_xor, "xor"), _reflected(np.bitwise_xor, "rxor")
    __lshift__, __rlshift__ = _binary(np.left_shift, "lshift"), _reflected(np.left_shift, "rlshift")
    __rshift__, __rrshift__ = _binary(np.right_shift, "rshift"), _reflected(np.right_shift, "rrshift")

    __isub__, __imul__ = _in_place(np.subtract, "isub"), _in_place(np.multiply, "imul")
    __itruediv__, __ifloordiv__ = _in_place(np.divide, "itruediv"), _in_place(np.floor_divide, "ifloordiv")
    __imod__, __ipow__ = _in_place(np.remainder, "imod"), _in_place(np.power, "ipow")
    __iand__, __ior__, __ixor__ = (
        _in_place(np.bitwise_and, "iand"), _in_place(np.bitwise_or, "ior"), _in_place(np.bitwise_xor, "ixor")
    )  # fmt: skip
    __ilshift__, __irshift__ = _in_place(np.left_shift, "ilshift"), _in_place(np.right_shift, "irshift")

    __lt__, __le__ = _binary(np.less, "lt"), _binary(np.less_equal, "le")
    __gt__, __ge__ = _binary(np.greater, "gt"), _binary(np.greater_equal, "ge")
    __eq__, __ne__ = _binary(np.equal, "eq"), _binary(np.not_equal, "ne")
    __hash__ = None  # type: ignore[assignment]  # as ndarray

    __neg__, __pos__ = _unary(np.negative, "neg"), _unary(np.positive, "pos")
    __abs__, __invert__ = _unary(np.absolute, "abs"), _unary(np.invert, "invert")

    @operation
    def __pow__(self, other, modulus=None):
        if modulus is not None:
            raise UsageTypeError("pow() of a traced value takes no modulus", "Write (x ** n) % m.")
        if self.weak in (bool, int) and type(other) is int and other < 0:
            other = float(other)  # Python's integers turn to float here
        return operate(np.power, self, other)

    @operation
    def __rpow__(self, other):
        return operate(np.power, other, self)

    def __divmod__(self, other):
        return self // other, self % other

    def __rdivmod__(self, other):
        return other // self, other % self

    @operation
    def __matmul__(self, other):
        return array_ufunc(np.matmul, "__call__", (self, other), {})

    @operation
    def __rmatmul__(self, other):
        return array_ufunc(np.matmul, "__call__", (other, self), {})

    @operation
    def __imatmul__(self, other):
        return call_ufunc(np.matmul, self, other, out=(self,))
