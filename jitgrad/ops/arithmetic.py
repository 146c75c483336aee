"""Elementwise arithmetic: sums, products, quotients, powers, rounding, absolute values, maxima."""

from __future__ import annotations

import numpy as np

from ..errors import UsageValueError
from ..ir.aval import Aval
from ..ir.node import Node, apply, call, full
from ..ir.primitive import Samples
from .families import MINUS_ONE, ONE, elementwise, total

_ANY_KIND = Samples(kinds="fib")
_NUMBERS = Samples(kinds="fi")

# --- sums and products

# d(x + y) = dx + dy
elementwise(
    "add",
    numpy=np.add,
    emit=lambda e, x, y: e.add(x, y),
    partials=lambda x, y, out: [ONE, ONE],
    samples=_ANY_KIND,
)

# d(x - y) = dx - dy
elementwise(
    "subtract",
    numpy=np.subtract,
    emit=lambda e, x, y: e.sub(x, y),
    partials=lambda x, y, out: [ONE, MINUS_ONE],
    samples=_NUMBERS,
)

# d(x y) = y dx + x dy
elementwise(
    "multiply",
    numpy=np.multiply,
    emit=lambda e, x, y: e.mul(x, y),
    partials=lambda x, y, out: [y, x],
    samples=_ANY_KIND,
)

# d(-x) = -dx
elementwise(
    "negative",
    numpy=np.negative,
    emit=lambda e, x: e.neg(x),
    partials=lambda x, out: [MINUS_ONE],
    samples=_NUMBERS,
)

# --- quotients


# d(x / y) = r dx - (x / y) r dy,   r = 1 / y
def _divide_partials(x, y, out):
    r = 1.0 / y
    return [r, -(out * r)]


elementwise(
    "divide",
    numpy=np.divide,
    emit=lambda e, x, y: e.div(x, y),
    partials=_divide_partials,
    singular=True,
    cost=4,
    samples=Samples(domain=((-2.0, 2.0), (0.5, 2.0)), singular=(((1.0, 0.0), (np.inf, -np.inf)),)),
    doc="`numpy.divide` of floats.",
)


def _emit_floor_divide(e, x, y):
    if x.dtype.kind != "f":
        quotient, rest = e.int_div(x, y), e.int_rem(x, y)
        return (
            e.sub(quotient, e.cast(_must_go_down(e, rest, y), x.dtype)) if x.dtype.kind == "i" else quotient
        )
    zero, one, half = e.like(x, 0), e.like(x, 1), e.like(x, 0.5)
    rest = e.rem(x, y)
    quotient = e.div(e.sub(x, rest), y)
    quotient = e.select(_must_go_down(e, rest, y), e.sub(quotient, one), quotient)
    down = e.floor(quotient)  # `quotient` is near an integer: the nearest one is meant
    nearest = e.select(e.gt(e.sub(quotient, down), half), e.add(down, one), down)
    plain = e.div(x, y)
    found = e.select(e.ne(quotient, zero), nearest, e.copysign(zero, plain))
    return e.select(e.eq(y, zero), plain, found)


def _must_go_down(e, rest, y):
    """Whether the remainder of a division rounded to zero has the wrong sign: NumPy's has the divisor's."""
    zero = e.like(rest, 0)
    return e.and_(e.ne(rest, zero), e.xor(e.lt(rest, zero), e.lt(y, zero)))


def _emit_remainder(e, x, y):
    if x.dtype.kind != "f":
        rest = e.int_rem(x, y)
        return e.select(_must_go_down(e, rest, y), e.add(rest, y), rest) if x.dtype.kind == "i" else rest
    zero = e.like(x, 0)
    rest = e.rem(x, y)
    shifted = e.select(_must_go_down(e, rest, y), e.add(rest, y), rest)
    return e.select(e.eq(rest, zero), e.copysign(zero, y), shifted)


def _emit_fmod(e, x, y):
    return e.rem(x, y) if x.dtype.kind == "f" else e.int_rem(x, y)


_QUOTIENT = Samples(domain=((-3.0, 3.0), (0.6, 1.7)), kinds="fi")

# floor(x / y) is constant between its jumps.
elementwise("floor_divide", numpy=np.floor_divide, emit=_emit_floor_divide, cost=20, samples=_QUOTIENT)

# x mod y = x - floor(x / y) y:    d = dx - floor(x / y) dy
elementwise(
    "remainder",
    numpy=np.remainder,
    emit=_emit_remainder,
    partials=lambda x, y, out: [ONE, -call("floor_divide", x, y)],
    singular=True,
    cost=20,
    samples=_QUOTIENT,
)

# fmod(x, y) = x - n y,  n = trunc(x / y) = (x - fmod(x, y)) / y:    d = dx - n dy
elementwise(
    "fmod",
    numpy=np.fmod,
    emit=_emit_fmod,
    partials=lambda x, y, out: [ONE, -call("rint", (x - out) / y)],
    singular=True,
    cost=20,
    samples=_QUOTIENT,
)

# --- powers


def _emit_power(e, x, y):
    if x.dtype.kind == "f":
        return e.math("power", x, y)
    # By the binary digits of y >= 0, wrapping around.
    result, base = e.like(x, 1), x
    width = 8 * x.dtype.itemsize - (x.dtype.kind == "i")
    for bit in range(width):
        digit = e.and_(y, e.like(y, 1 << bit))
        result = e.select(e.ne(digit, e.like(y, 0)), e.mul(result, base), result)
        if bit + 1 < width:
            base = e.mul(base, base)
    return result


# d(x**y) = y x**(y-1) dx + x**y log(x) dy
# At y = 0 the first slope is 0 for every x; at x = 0 the second is 0 (0**y is 0 for all y > 0).
# For x < 0 the second is nan: x**y is real at integral y alone.
def _power_partials(x, y, out):
    slope = y * call("power", x, y - 1.0)
    zero = full(0.0, x.aval)
    slope = call("select", call("equal", y, zero), zero, slope)
    log = call("select", call("equal", x, zero), zero, call("log", x))
    return [slope, out * log]


elementwise(
    "power",
    numpy=np.power,
    emit=_emit_power,
    partials=_power_partials,
    singular=True,
    cost=40,
    samples=Samples(
        domain=((0.2, 2.0), (-2.0, 2.0)),
        kinds="fi",
        singular=(
            ((0.0, 0.0), (0.0, 0.0)),
            ((0.0, 1.0), (1.0, 0.0)),
            ((0.0, 2.0), (0.0, 0.0)),
            ((0.0, 0.5), (np.inf, 0.0)),
            ((-3.0, 2.0), (-6.0, np.nan)),
            ((-3.0, 0.0), (0.0, np.nan)),
        ),
    ),
    doc="`numpy.power` of floats; of integers with exponents >= 0, wrapping around.",
)


def _by_squaring(multiply, one, x, exponent: int):
    """x**exponent (>= 0) by the exponent's binary digits: one order of multiplications for every target."""
    result, base = None, x
    while exponent:
        if exponent & 1:
            result = base if result is None else multiply(result, base)
        exponent >>= 1
        if exponent:
            base = multiply(base, base)
    return one(x) if result is None else result


def _integer_power_reference(x, *, exponent):
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    out = _by_squaring(np.multiply, np.ones_like, wide, abs(exponent))
    return (out if exponent >= 0 else np.reciprocal(out)).astype(x.dtype, copy=False)


def _emit_integer_power(e, x, *, exponent):
    out = _by_squaring(e.mul, lambda x: e.spread(e.like(x, 1), x.lanes), x, abs(exponent))
    return out if exponent >= 0 else e.div(e.like(x, 1), out)


def _integer_power_aval(x: Aval, *, exponent: int) -> Aval:
    if exponent < 0 and x.dtype.kind != "f":
        raise UsageValueError(
            f"integers to a negative integer power ({exponent}) are not defined", "Convert to float first."
        )
    return x


# d(x**n) = n x**(n-1) dx, and 0 for n = 0. Exact at x = 0: no division, no logarithm.
def _integer_power_partials(x, out, *, exponent):
    if exponent == 0:
        return [None]
    return [ONE if exponent == 1 else integer_power(x, exponent - 1) * float(exponent)]


_INTEGER_POWER = elementwise(
    "integer_power",
    numpy=_integer_power_reference,
    emit=_emit_integer_power,
    partials=_integer_power_partials,
    singular=True,
    aval=_integer_power_aval,
    cost=3,
    samples=Samples(
        domain=(0.4, 1.6),
        cases=tuple((((5,),), {"exponent": n}) for n in (-3, -1, 0, 1, 2, 3, 7, 64)),
        kinds="f",
        singular=(
            ((0.0,), (0.0,), {"exponent": 2}),
            ((0.0,), (1.0,), {"exponent": 1}),
            ((0.0,), (-np.inf,), {"exponent": -1}),
        ),
    ),
    doc="x**exponent for a Python int, |exponent| <= 64, by repeated multiplication.",
)


def integer_power(x: Node, exponent: int) -> Node:
    """x**exponent for a Python int; x itself for 1, ones for 0."""
    if exponent == 0:
        return full(1, x.aval)
    return x if exponent == 1 else apply(_INTEGER_POWER, x, exponent=int(exponent))


# --- roots


# d sqrt(x) = dx / (2 sqrt(x))
elementwise(
    "sqrt",
    numpy=np.sqrt,
    emit=lambda e, x: e.sqrt(x),
    partials=lambda x, out: [0.5 / out],
    singular=True,
    cost=5,
    samples=Samples(domain=(0.3, 3.0), singular=(((0.0,), (np.inf,)),)),
)


# --- sign and absolute value


def _emit_sign(e, x):
    zero = e.like(x, 0)
    if x.dtype.kind == "f":  # nan stays, -0.0 becomes 0.0
        below = e.select(e.eq(x, zero), zero, x)
        below = e.select(e.lt(x, zero), e.like(x, -1), below)
    else:
        below = e.select(e.lt(x, zero), e.like(x, -1), zero) if x.dtype.kind == "i" else zero
    return e.select(e.gt(x, zero), e.like(x, 1), below)


elementwise("sign", numpy=np.sign, emit=_emit_sign, samples=_NUMBERS)

# d|x| = sign(x) dx, which is 0 at 0
elementwise(
    "absolute",
    numpy=np.absolute,
    emit=lambda e, x: e.abs(x),
    partials=lambda x, out: [call("sign", x)],
    samples=Samples(kinds="fib", singular=(((0.0,), (0.0,)), ((-0.0,), (0.0,)))),
)

# copysign(x, y) = |x| with y's sign:    d = sign(x) copysign(1, y) dx, which is 0 at x = 0
elementwise(
    "copysign",
    numpy=np.copysign,
    emit=lambda e, x, y: e.copysign(x, y),
    partials=lambda x, y, out: [call("sign", x) * call("copysign", full(1.0, x.aval), y), None],
    samples=Samples(singular=(((0.0, -1.0), (0.0, 0.0)),)),
)


# Of two equal zeros nextafter gives the second; in float16, NumPy before 2.5 gives the first.
_SECOND_OF_HALVES = bool(np.signbit(np.nextafter(np.float16(0.0), np.float16(-0.0))))


def _emit_nextafter(e, x, y):
    integer = np.dtype(f"int{8 * x.dtype.itemsize}")
    zero = e.like(x, 0)
    bits = e.bitcast(x, integer)
    away = e.xor(e.lt(x, y), e.lt(x, zero))  # the magnitude grows
    moved = e.bitcast(e.select(away, e.add(bits, e.like(bits, 1)), e.sub(bits, e.like(bits, 1))), x.dtype)
    tiny = e.copysign(e.bitcast(e.constant(1, integer), x.dtype), y)
    moved = e.select(e.eq(x, zero), tiny, moved)
    moved = e.select(e.eq(x, y), y if _SECOND_OF_HALVES or x.dtype.itemsize != 2 else x, moved)
    return e.select(e.or_(e.is_nan(x), e.is_nan(y)), e.add(x, y), moved)


# One step of rounding beyond x:    d = dx
elementwise(
    "nextafter",
    numpy=np.nextafter,
    emit=_emit_nextafter,
    partials=lambda x, y, out: [ONE, None],
    own_half=True,
    cost=8,
)

# --- rounding: constant between the jumps

for _name in ("floor", "ceil", "trunc"):
    elementwise(
        _name,
        numpy=getattr(np, _name),
        emit=lambda e, x, _name=_name: getattr(e, _name)(x) if x.dtype.kind == "f" else x,
        samples=_ANY_KIND,
    )
elementwise("rint", numpy=np.rint, emit=lambda e, x: e.rint(x))

# --- the larger, the smaller


def emit_maximum(e, x, y):
    """The larger of two scalars, nan if one of them is."""
    takes_x = e.ge(x, y)
    return e.select(e.or_(takes_x, e.is_nan(x)) if x.dtype.kind == "f" else takes_x, x, y)


def emit_minimum(e, x, y):
    """The smaller of two scalars, nan if one of them is."""
    takes_x = e.le(x, y)
    return e.select(e.or_(takes_x, e.is_nan(x)) if x.dtype.kind == "f" else takes_x, x, y)


def _emit_fmax(e, x, y):
    takes_x = e.ge(x, y)
    return e.select(e.or_(takes_x, e.is_nan(y)) if x.dtype.kind == "f" else takes_x, x, y)


def _emit_fmin(e, x, y):
    takes_x = e.le(x, y)
    return e.select(e.or_(takes_x, e.is_nan(y)) if x.dtype.kind == "f" else takes_x, x, y)


# The derivative goes to the side taken; at a tie half to each. A nan takes what it takes part in: in maximum
# and minimum both sides get the full derivative (the result is nan), in fmax and fmin the side that is a
# number.
def _taken(value: Node, loses: Node, x: Node, y: Node) -> Node:
    """`value` where `loses` is false, half of it where x = y, else 0."""
    zero = full(0.0, value.aval)
    return call("select", loses, call("select", call("equal", x, y), value * 0.5, zero), value)


def _loses(name: str, x: Node, y: Node) -> Node:
    """Where x is not taken, or is equal to y."""
    if name in ("maximum", "minimum"):
        return call("less_equal" if name == "maximum" else "greater_equal", x, y)
    beats = call("greater" if name == "fmax" else "less", x, y)
    return call("logical_not", call("logical_or", beats, call("isnan", y)))


def _declare_extremum(name: str, numpy, emit) -> None:
    def jvp(tangents, primals, out):
        (dx, dy), (x, y) = tangents, primals
        left = None if dx is None else _taken(dx, _loses(name, x, y), x, y)
        right = None if dy is None else _taken(dy, _loses(name, y, x), y, x)
        return total((left, right))

    def vjp(cotangent, primals, out):
        x, y = primals
        return [_taken(cotangent, _loses(name, x, y), x, y), _taken(cotangent, _loses(name, y, x), y, x)]

    samples = Samples(kinds="fib", singular=(((1.0, 1.0), (0.5, 0.5)),))
    elementwise(name, numpy=numpy, emit=emit, jvp=jvp, vjp=vjp, cost=2, samples=samples)


_declare_extremum("maximum", np.maximum, emit_maximum)
_declare_extremum("minimum", np.minimum, emit_minimum)
_declare_extremum("fmax", np.fmax, _emit_fmax)
_declare_extremum("fmin", np.fmin, _emit_fmin)
