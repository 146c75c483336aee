"""Write floating-point formulas as LLVM IR: a scalar value with Python operators, which the loop vectoriser
widens.

Everything here emits straight-line code: arithmetic, integer operations on the bits of a float, ``select``
and the intrinsics that every target widens (``fma``, ``fabs``, ``copysign``, ``sqrt``, ``floor``). No
instruction carries a fast-math flag, so that error-free transformations (``polynomial.two_sum`` and its
relatives) survive the optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from llvmlite import ir


@dataclass(frozen=True)
class Format:
    """The layout of an IEEE binary format and the constants that bit manipulation needs."""

    name: str
    float_type: ir.Type
    int_type: ir.Type
    bits: int
    fraction_bits: int
    bias: int

    @property
    def rounding_shift(self) -> float:
        """1.5 * 2**p: adding it rounds a small number to an integer, whose bits are the low bits."""
        return 1.5 * 2.0**self.fraction_bits

    @property
    def infinity_bits(self) -> int:
        return (2 * self.bias + 1) << self.fraction_bits

    @property
    def fraction_mask(self) -> int:
        return (1 << self.fraction_bits) - 1

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    def bits_of(self, value: float) -> int:
        """Bit pattern of a positive normal number that the format holds exactly, or infinity."""
        if math.isinf(value):
            return self.infinity_bits
        fraction, exponent = math.frexp(value)
        scaled = fraction * 2.0 ** (self.fraction_bits + 1)
        return ((exponent - 1 + self.bias) << self.fraction_bits) + int(scaled) - (1 << self.fraction_bits)


FLOAT64 = Format("float64", ir.DoubleType(), ir.IntType(64), 64, 52, 1023)
FLOAT32 = Format("float32", ir.FloatType(), ir.IntType(32), 32, 23, 127)
_FLOAT_OPERATIONS = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
_INT_OPERATIONS = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "&": "and_",
    "|": "or_",
    "^": "xor",
    "<<": "shl",
    ">>": "lshr",
}

Number: TypeAlias = "Lane | float | int"


def element_of(kind: ir.Type) -> ir.Type:
    """The element of a vector type; a scalar type itself."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def with_element(kind: ir.Type, element: ir.Type) -> ir.Type:
    """`element`, as many times as `kind` has elements."""
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def constant(kind: ir.Type, number: float | int) -> ir.Constant:
    """`number` in every element of a scalar or vector type."""
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def declare_intrinsic(module: ir.Module, name: str, kind: ir.Type, arity: int) -> ir.Function:
    """The overload of an intrinsic whose result and operands all are of a scalar or vector type."""
    vector = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    full_name = f"{name}.{vector}{element_of(kind).intrinsic_name}"
    found = module.globals.get(full_name)
    return found or ir.Function(module, ir.FunctionType(kind, [kind] * arity), full_name)


class MathModule(ir.Module):
    """A module of functions on explicit lanes, as many as will ever be; `scaling`: for a processor with AVX-512's
    scaling instruction."""

    def __init__(self, scaling: bool = False) -> None:
        super().__init__()
        self.scaling = scaling


class Lane:
    """An LLVM value (float, integer or i1; a scalar, or a vector of them) together with the builder that
    receives the operations on it.

    Comparisons are the ordered ones (false when an operand is nan) and give an i1 lane; ``>>`` is the
    logical shift.
    """

    __slots__ = ("builder", "value")

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.value = value

    @property
    def type(self) -> ir.Type:
        return self.value.type

    @property
    def format(self) -> Format:
        """The float format whose float or integer type this lane has."""
        return FLOAT64 if element_of(self.type) in (FLOAT64.float_type, FLOAT64.int_type) else FLOAT32

    @property
    def is_float(self) -> bool:
        return not isinstance(element_of(self.type), ir.IntType)

    def like(self, number: Number) -> Lane:
        """A constant of this lane's type (lanes pass through)."""
        if isinstance(number, Lane):
            return number
        return Lane(self.builder, constant(self.type, number))

    def _binary(self, symbol: str, other: Number, swapped: bool = False) -> Lane:
        name = (_FLOAT_OPERATIONS if self.is_float else _INT_OPERATIONS)[symbol]
        left, right = (self.like(other), self) if swapped else (self, self.like(other))
        return Lane(self.builder, getattr(self.builder, name)(left.value, right.value))

    def __add__(self, other: Number) -> Lane:
        return self._binary("+", other)

    def __radd__(self, other: Number) -> Lane:
        return self._binary("+", other, swapped=True)

    def __sub__(self, other: Number) -> Lane:
        return self._binary("-", other)

    def __rsub__(self, other: Number) -> Lane:
        return self._binary("-", other, swapped=True)

    def __mul__(self, other: Number) -> Lane:
        return self._binary("*", other)

    def __rmul__(self, other: Number) -> Lane:
        return self._binary("*", other, swapped=True)

    def __truediv__(self, other: Number) -> Lane:
        return self._binary("/", other)

    def __rtruediv__(self, other: Number) -> Lane:
        return self._binary("/", other, swapped=True)

    def __and__(self, other: Number) -> Lane:
        return self._binary("&", other)

    def __or__(self, other: Number) -> Lane:
        return self._binary("|", other)

    def __xor__(self, other: Number) -> Lane:
        return self._binary("^", other)

    def __lshift__(self, count: Number) -> Lane:
        return self._binary("<<", count)

    def __rshift__(self, count: Number) -> Lane:
        return self._binary(">>", count)

    def __invert__(self) -> Lane:
        return self ^ (1 if element_of(self.type) == ir.IntType(1) else -1)

    def __neg__(self) -> Lane:
        return Lane(self.builder, self.builder.fneg(self.value))

    def _compare(self, predicate: str, other: Number) -> Lane:
        compare = self.builder.fcmp_ordered if self.is_float else self.builder.icmp_signed
        return Lane(self.builder, compare(predicate, self.value, self.like(other).value))

    def __lt__(self, other: Number) -> Lane:
        return self._compare("<", other)

    def __le__(self, other: Number) -> Lane:
        return self._compare("<=", other)

    def __gt__(self, other: Number) -> Lane:
        return self._compare(">", other)

    def __ge__(self, other: Number) -> Lane:
        return self._compare(">=", other)

    def equals(self, other: Number) -> Lane:
        return self._compare("==", other)

    def is_nan(self) -> Lane:
        return Lane(self.builder, self.builder.fcmp_unordered("uno", self.value, self.value))

    def as_bits(self) -> Lane:
        """The bit pattern of a float as an integer lane."""
        return Lane(
            self.builder, self.builder.bitcast(self.value, with_element(self.type, self.format.int_type))
        )

    def as_float(self) -> Lane:
        """The float whose bit pattern this integer lane is."""
        return Lane(
            self.builder, self.builder.bitcast(self.value, with_element(self.type, self.format.float_type))
        )

    def widened(self) -> Lane:
        """float32 -> float64 (exact)."""
        return Lane(self.builder, self.builder.fpext(self.value, with_element(self.type, FLOAT64.float_type)))

    def narrowed(self) -> Lane:
        """float64 -> float32 (rounded to nearest)."""
        return Lane(
            self.builder, self.builder.fptrunc(self.value, with_element(self.type, FLOAT32.float_type))
        )


def _intrinsic(name: str, *lanes: Lane) -> Lane:
    builder = lanes[0].builder
    function = declare_intrinsic(builder.module, name, lanes[0].type, len(lanes))
    return Lane(builder, builder.call(function, [lane.value for lane in lanes]))


def fma(a: Number, b: Number, c: Number) -> Lane:
    """a * b + c, rounded once."""
    model = next(operand for operand in (a, b, c) if isinstance(operand, Lane))
    return _intrinsic("llvm.fma", *(model.like(operand) for operand in (a, b, c)))


def fabs(x: Lane) -> Lane:
    return _intrinsic("llvm.fabs", x)


def sqrt(x: Lane) -> Lane:
    return _intrinsic("llvm.sqrt", x)


def floor(x: Lane) -> Lane:
    return _intrinsic("llvm.floor", x)


def copysign(magnitude: Lane, sign: Lane) -> Lane:
    return _intrinsic("llvm.copysign", magnitude, sign)


_REGISTER_BITS = 512


def has_scaling(x: Lane) -> bool:
    """Whether `scaled` may be used on x: whole registers, in a module for a processor with the instruction."""
    module = x.builder.module
    vector = isinstance(x.type, ir.VectorType)
    return vector and isinstance(module, MathModule) and module.scaling and x.type.count * x.format.bits % _REGISTER_BITS == 0


def scaled(x: Lane, exponent: Lane) -> Lane:
    """x * 2**exponent, rounded once, for an integer exponent of x's type: the instruction of AVX-512."""
    width = _REGISTER_BITS // x.format.bits
    parts = [_scaled_register(*registers) for registers in zip(_registers(x, width), _registers(exponent, width), strict=True)]
    while len(parts) > 1:
        parts = [_joined(low, high) for low, high in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _joined(low: Lane, high: Lane) -> Lane:
    """The lanes of two vectors of one type in one."""
    lanes = 2 * low.type.count
    order = ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(lanes)))
    return Lane(low.builder, low.builder.shuffle_vector(low.value, high.value, order))


def _registers(x: Lane, width: int) -> list[Lane]:
    """A vector in pieces of `width`."""
    if x.type.count == width:
        return [x]
    undefined = ir.Constant(x.type, ir.Undefined)
    orders = [range(start, start + width) for start in range(0, x.type.count, width)]
    picks = [ir.Constant(ir.VectorType(ir.IntType(32), width), list(order)) for order in orders]
    return [Lane(x.builder, x.builder.shuffle_vector(x.value, undefined, pick)) for pick in picks]


def _scaled_register(x: Lane, exponent: Lane) -> Lane:
    module, name = x.builder.module, f"llvm.x86.avx512.mask.scalef.p{'d' if x.format is FLOAT64 else 's'}.512"
    mask, rounding = ir.IntType(x.type.count), ir.IntType(32)
    kind = ir.FunctionType(x.type, [x.type, x.type, x.type, mask, rounding])
    function = module.globals.get(name) or ir.Function(module, kind, name)
    as_set = rounding(4)  # round as the control register says
    return Lane(x.builder, x.builder.call(function, [x.value, exponent.value, x.value, mask(-1), as_set]))


def where(condition: Lane, chosen: Number, otherwise: Number) -> Lane:
    """``chosen`` where the condition holds, else ``otherwise``; at least one of the two is a lane."""
    model = next(operand for operand in (chosen, otherwise) if isinstance(operand, Lane))
    operands = (model.like(chosen).value, model.like(otherwise).value)
    return Lane(condition.builder, condition.builder.select(condition.value, *operands))


def any_lane(condition: Lane) -> ir.Value:
    """Whether a condition holds in some lane."""
    if not isinstance(condition.type, ir.VectorType):
        return condition.value
    bits = ir.IntType(condition.type.count)
    return condition.builder.icmp_unsigned("!=", condition.builder.bitcast(condition.value, bits), bits(0))


def at_most(x: Lane, bound: Number) -> Lane:
    """min(x, bound), nan stays nan."""
    return where(x > bound, bound, x)


def at_least(x: Lane, bound: Number) -> Lane:
    """max(x, bound), nan stays nan."""
    return where(x < bound, bound, x)


def round_to_integer(x: Lane) -> tuple[Lane, Lane]:
    """(x rounded to nearest as a float, the bits of that integer plus ``rounding_shift``), for |x| <
    2**(p-2).

    The low bits of the second lane are the integer in two's complement.
    """
    shift = x.format.rounding_shift
    shifted = x + shift
    return shifted - shift, shifted.as_bits()


def power_of_two(shifted_bits: Lane) -> Lane:
    """2**k for the k inside the bits that ``round_to_integer`` gives, 1 - bias <= k <= bias."""
    form = shifted_bits.format
    return ((shifted_bits + form.bias) << form.fraction_bits).as_float()


def unary(formula: Callable[[Lane], Lane]) -> Callable[[ir.IRBuilder, ir.Value], ir.Value]:
    """Turn a formula over lanes into an emitter ``(builder, x) -> value``."""

    def emit(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
        return formula(Lane(builder, x)).value

    emit.__name__ = emit.__qualname__ = formula.__name__
    emit.__doc__ = formula.__doc__
    return emit


def binary(formula: Callable[[Lane, Lane], Lane]) -> Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]:
    """Turn a formula over two lanes into an emitter ``(builder, x, y) -> value``."""

    def emit(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        return formula(Lane(builder, x), Lane(builder, y)).value

    emit.__name__ = emit.__qualname__ = formula.__name__
    emit.__doc__ = formula.__doc__
    return emit
