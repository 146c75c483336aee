"""sin, cos and tan of huge arguments: a scalar function of the module, called in a predicated block on the
rare lanes that need it.

M. H. Payne and R. N. Hanek, "Radian reduction for trigonometric functions", SIGNUM Newsletter 18 (1983): of
2/pi only the bits matter whose product with x is not a multiple of 4. x = M 2**e with a 53-bit integer M;
192 bits of 2/pi, taken from bit e - 2 on, times M modulo 2**192 are the quadrant and 126 bits of the
fraction. No double lies closer than 2**-62 to a multiple of pi/2.

Measured (float64, loop over arrays of common arguments, AVX2 code): the reduction without this file 1.5 ns
an element, with the predicated call 1.8 to 2.7, with a branch-free table of gathered products instead 6.1; a
plain call in a branch is not vectorised at all (5.4).  On explicit vectors one test serves all lanes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from llvmlite import ir

from jitgrad.backends.vector_math.lanes import FLOAT64, Lane, MathModule, any_lane, fabs, fma, where
from jitgrad.backends.vector_math.polynomial import fast_two_sum, two_product

# 64 zero bits, then 1280 bits of 2/pi.
_TWO_OVER_PI_WORDS = (
    0x0000000000000000, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561,
    0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484, 0xE99C7026B45F7E41,
    0x3991D639835339F4, 0x9C845F8BBDF9283B, 0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7,
    0x4F463F669E5FEA2D, 0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB,
    0xF0CFBC209AF4361D,
)  # fmt: skip
_HALF_PI = (float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54"))
_I64, _I128 = ir.IntType(64), ir.IntType(128)
_UNUSED_WIDTH = 64

# (n, r, r_low) -> a function of n pi/2 + r + r_low.
TurnedFormula = Callable[[Lane, Lane, Lane], Lane]


class _Attributes(ir.values.FunctionAttributes):
    """Function attributes with the modern spellings that llvmlite's own list lacks."""

    _known = ir.values.FunctionAttributes._known | {"willreturn", "nofree", "memory(none)"}


def _constant_words(module: ir.Module) -> ir.GlobalVariable:
    name = "jitgrad.two_over_pi"
    if name in module.globals:
        return module.globals[name]
    kind = ir.ArrayType(_I64, len(_TWO_OVER_PI_WORDS))
    words = ir.GlobalVariable(module, kind, name)
    words.linkage, words.global_constant = "internal", True
    words.initializer = ir.Constant(kind, list(_TWO_OVER_PI_WORDS))
    return words


def _window(builder: ir.IRBuilder, exponent: ir.Value) -> list[ir.Value]:
    """The three words of 2/pi whose first bit has the weight 2 in 2**exponent * 2/pi."""
    words = _constant_words(builder.module)
    skipped = builder.add(exponent, _I64(64 - 2))
    first, shift = builder.lshr(skipped, _I64(6)), builder.and_(skipped, _I64(63))
    loaded = []
    for offset in range(4):
        place = builder.gep(
            words, [_I64(0), builder.add(first, _I64(offset))], inbounds=True, source_etype=words.value_type
        )
        loaded.append(builder.load(place, typ=_I64))
    kind = ir.FunctionType(_I64, [_I64] * 3)
    funnel = builder.module.declare_intrinsic("llvm.fshl", [_I64], kind)
    return [builder.call(funnel, [high, low, shift]) for high, low in zip(loaded, loaded[1:], strict=False)]


def _fraction_of_turn(builder: ir.IRBuilder, magnitude: ir.Value) -> ir.Value:
    """(|x| 2/pi mod 4) 2**126 as an i128."""
    bits = builder.bitcast(magnitude, _I64)
    exponent = builder.sub(builder.lshr(bits, _I64(52)), _I64(1023 + 52))
    mantissa = builder.or_(builder.and_(bits, _I64((1 << 52) - 1)), _I64(1 << 52))
    high, middle, low = _window(builder, exponent)
    wide_mantissa = builder.zext(mantissa, _I128)
    total = builder.lshr(builder.mul(wide_mantissa, builder.zext(low, _I128)), _I128(64))
    total = builder.add(total, builder.mul(wide_mantissa, builder.zext(middle, _I128)))
    top = builder.shl(builder.zext(builder.mul(mantissa, high), _I128), _I128(64))
    return builder.add(total, top)


def _reduce(x: Lane) -> tuple[Lane, Lane, Lane]:
    """(n, r, r_low) with |x| = n pi/2 + r + r_low modulo 2 pi, |r| <= pi/4."""
    builder = x.builder
    turn = _fraction_of_turn(builder, fabs(x).value)
    n = builder.lshr(builder.add(turn, _I128(1 << 125)), _I128(126))
    fraction = builder.sub(turn, builder.shl(n, _I128(126)))
    top = builder.trunc(builder.lshr(fraction, _I128(64)), _I64)
    bottom = builder.trunc(fraction, _I64)
    # 53 signed bits, 53 bits and 22 bits: each a float64 exactly.
    straddling = builder.or_(
        builder.shl(builder.and_(top, _I64(0x7FF)), _I64(42)), builder.lshr(bottom, _I64(22))
    )
    words = builder.ashr(top, _I64(11)), straddling, builder.and_(bottom, _I64(0x3FFFFF))
    parts = [
        Lane(builder, builder.sitofp(word, FLOAT64.float_type)) * 2.0 ** (shift - 126)
        for word, shift in zip(words, (75, 22, 0), strict=True)
    ]
    high, low = fast_two_sum(parts[0], parts[1])
    high, low = fast_two_sum(high, low + parts[2])
    r, error = two_product(high, _HALF_PI[0])
    r, r_low = fast_two_sum(r, fma(low, _HALF_PI[0], fma(high, _HALF_PI[1], error)))
    return Lane(builder, builder.trunc(n, _I64)), r, r_low


def _huge_function(module: ir.Module, formula: TurnedFormula) -> ir.Function:
    """``double f(double x, i64 turns)``, formula(n + turns, r, r_low), in the module; made at first use."""
    name = f"jitgrad.huge.{formula.__name__}"
    if name in module.globals:
        return module.globals[name]
    double = FLOAT64.float_type
    function = ir.Function(module, ir.FunctionType(double, [double, _I64]), name)
    # Not internal: LLVM drops a constant argument of an internal function and then rejects the attribute.
    function.linkage = "linkonce_odr"
    function.attributes = _predicable_attributes(module, name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    x, turns = (Lane(builder, argument) for argument in function.args)
    n, r, r_low = _reduce(x)
    negative = x < 0.0
    # f(-x): reflect the reduced angle, -(n pi/2 + r) = -n pi/2 - r, before the turns are added.
    n, r, r_low = where(negative, n.like(0) - n, n), where(negative, -r, r), where(negative, -r_low, r_low)
    result = formula(n + turns, r, r_low)
    builder.ret(where(fabs(x) < math.inf, result, math.nan).value)
    return function


def _predicable_attributes(module: ir.Module, name: str) -> _Attributes:
    """Attributes that let the loop vectoriser keep the call: scalar, one conditional call a lane.

    The vectoriser refuses a loop with a call that has no vector variant, and speculates a pure call that has
    unmasked ones.  A declared masked variant of a width that no loop uses makes it predicate the scalar call
    instead.  A `MathModule` is not vectorised.
    """
    attributes = _Attributes(["cold", "noinline", "nounwind", "willreturn", "nofree", "memory(none)"])
    if isinstance(module, MathModule):
        return attributes
    variant = "jitgrad.huge.unused_variant"
    if variant not in module.globals:
        _declare_variant(module, variant)
    mapping = f'"vector-function-abi-variant"="_ZGV_LLVM_M{_UNUSED_WIDTH}vv_{name}({variant})"'
    attributes._known = attributes._known | {mapping}
    attributes.add(mapping)
    return attributes


def _declare_variant(module: ir.Module, name: str) -> None:
    """Declare the variant, never called, and keep the declaration alive until the vectoriser has run."""
    vector, turns, mask = (
        ir.VectorType(kind, _UNUSED_WIDTH) for kind in (FLOAT64.float_type, _I64, ir.IntType(1))
    )
    function = ir.Function(module, ir.FunctionType(vector, [vector, turns, mask]), name)
    kind = ir.ArrayType(ir.PointerType(), 1)
    used = ir.GlobalVariable(module, kind, "llvm.compiler.used")
    used.linkage, used.section = "appending", "llvm.metadata"
    used.initializer = ir.Constant(kind, [function])


def replace_when_huge(x: Lane, usual: Lane, bound: float, formula: TurnedFormula, turns: int = 0) -> Lane:
    """``usual`` where |x| <= bound, else ``formula(n + turns, r, r_low)`` of the exactly reduced argument.

    Opens a basic block: the builder stands in a new block afterwards.
    """
    builder = x.builder
    function = _huge_function(builder.module, formula)
    before = builder.block
    huge = fabs(x) > bound
    with builder.if_then(any_lane(huge)):
        rare = _lane_by_lane(function, x, _I64(turns), huge, usual)
        after = builder.block
    merged = builder.phi(x.type)
    merged.add_incoming(usual.value, before)
    merged.add_incoming(rare.value, after)
    return Lane(builder, merged)


def _lane_by_lane(function: ir.Function, x: Lane, turns: ir.Constant, huge: Lane, usual: Lane) -> Lane:
    """`function` of x in double precision, rounded to x's, where `huge`; `usual` elsewhere."""
    builder = x.builder
    wide = x if x.format is FLOAT64 else x.widened()
    if not isinstance(x.type, ir.VectorType):
        rare = Lane(builder, builder.call(function, [wide.value, turns]))
        return rare if x.format is FLOAT64 else rare.narrowed()
    wide = where(huge, wide, 2.0**60)  # the reduction reads outside its table for small angles
    result = ir.Constant(wide.type, ir.Undefined)
    for index in range(x.type.count):
        place = ir.IntType(32)(index)
        lane = builder.call(function, [builder.extract_element(wide.value, place), turns])
        result = builder.insert_element(result, lane, place)
    rare = Lane(builder, result)
    return where(huge, rare if x.format is FLOAT64 else rare.narrowed(), usual)
