"""The scalar emitter: one element's arithmetic as LLVM IR text, on scalars or on explicit vectors of lanes.

Operations are declared against this interface alone (`emit.add(x, y)`), so every backend and every lane count shares
them. A `Value` carries its dtype, as LLVM's integers have no sign. A scalar meets a vector by being spread over it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

BOOL = np.dtype(np.bool_)
FAST_MATH = " reassoc contract arcp nsz"  # sums in another order, fused multiply-adds, reciprocals; nan and inf stay
_RELAXABLE = ("fadd", "fsub", "fmul", "fdiv")
_FLOATS = {"float64": "double", "float32": "float", "float16": "half"}


@dataclass(frozen=True, slots=True)
class Value:
    """An LLVM value (its name or a literal), the dtype it stands for, and its lanes (0: a scalar)."""

    name: str
    dtype: np.dtype
    lanes: int = 0


def scalar_type(dtype: np.dtype) -> str:
    """LLVM's type of one element in a register; a bool is i1 (and one byte in memory)."""
    if dtype == BOOL:
        return "i1"
    return _FLOATS.get(dtype.name) or f"i{8 * dtype.itemsize}"


def llvm_type(dtype: np.dtype, lanes: int = 0) -> str:
    """LLVM's type of `lanes` elements (0: a scalar)."""
    element = scalar_type(dtype)
    return f"<{lanes} x {element}>" if lanes else element


def literal(value, dtype: np.dtype) -> str:
    """LLVM's spelling of a constant; floats by their bits, as a double's (LLVM's rule for float and half too)."""
    if dtype == BOOL:
        return "true" if value else "false"
    if dtype.kind == "f":
        bits = struct.unpack("<Q", struct.pack("<d", float(value)))[0]
        if dtype.itemsize == 2:
            return f"0xH{np.float16(value).view(np.uint16):04X}"
        return f"0x{bits:016X}"
    return str(int(value))


def splat(value, dtype: np.dtype, lanes: int) -> str:
    """A constant in every lane."""
    text = literal(value, dtype)
    return f"<{', '.join(f'{scalar_type(dtype)} {text}' for _ in range(lanes))}>" if lanes else text


class Emitter:
    """Writes instructions into `lines`. `math` is the table of functions by name (see `backends.math_library`);
    what a kernel calls is noted in `declared` (declaration texts) and `functions` (the arguments of `math_symbol`)."""

    def __init__(self):
        self.lines: list[str] = []
        self.declared: set[str] = set()
        self.functions: set[tuple[str, np.dtype, int, bool]] = set()
        self.inline_math = True  # else every call of the mathematics library stays a call
        self.flags = ""  # of floating-point arithmetic: empty for IEEE's, or FAST_MATH
        self._count = 0

    # --- names and plumbing

    def name(self, stem: str = "v") -> str:
        self._count += 1
        return f"%{stem}{self._count}"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def raw(self, expression: str, stem: str = "v") -> str:
        """The name given to an instruction's result."""
        name = self.name(stem)
        self.lines.append(f"  {name} = {expression}")
        return name

    def let(self, expression: str, dtype: np.dtype, lanes: int) -> Value:
        return Value(self.raw(expression), dtype, lanes)

    def constant(self, value, dtype) -> Value:
        """A literal. It may be used beside vectors: it is spread where it is used."""
        dtype = np.dtype(dtype)
        return Value(literal(value, dtype), dtype)

    def like(self, x: Value, value) -> Value:
        """The number `value` with x's dtype."""
        return self.constant(value, x.dtype)

    def spread(self, x: Value, lanes: int) -> Value:
        """x in every one of `lanes` lanes."""
        if x.lanes == lanes:
            return x
        kind, vector = scalar_type(x.dtype), llvm_type(x.dtype, lanes)
        if not x.name.startswith("%"):
            return Value(f"<{', '.join([f'{kind} {x.name}'] * lanes)}>", x.dtype, lanes)
        first = self.raw(f"insertelement {vector} poison, {kind} {x.name}, i32 0")
        return self.let(f"shufflevector {vector} {first}, {vector} poison, <{lanes} x i32> zeroinitializer", x.dtype, lanes)

    def _aligned(self, *values: Value) -> tuple[int, tuple[Value, ...]]:
        lanes = max(value.lanes for value in values)
        return lanes, tuple([self.spread(value, lanes) for value in values])

    def _binary(self, opcode: str, x: Value, y: Value, dtype: np.dtype | None = None) -> Value:
        lanes, (x, y) = self._aligned(x, y)
        if opcode in _RELAXABLE:
            opcode += self.flags
        return self.let(f"{opcode} {llvm_type(x.dtype, lanes)} {x.name}, {y.name}", dtype or x.dtype, lanes)

    def intrinsic(self, stem: str, *operands: Value) -> Value:
        """`llvm.<stem>` of operands that all have one type, which is the result's too."""
        lanes, operands = self._aligned(*operands)
        dtype = operands[0].dtype
        kind = llvm_type(dtype, lanes)
        suffix = (f"v{lanes}" if lanes else "") + (f"f{8 * dtype.itemsize}" if dtype.kind == "f" else scalar_type(dtype))
        function = f"@llvm.{stem}.{suffix}"
        self.declared.add(f"declare {kind} {function}({', '.join([kind] * len(operands))})")
        return self.let(f"call {kind} {function}({', '.join(f'{kind} {o.name}' for o in operands)})", dtype, lanes)

    def math(self, name: str, *operands: Value) -> Value:
        """A function of the mathematics library (exp, log, tanh, power, ...) on floats of one dtype."""
        lanes, operands = self._aligned(*operands)
        dtype = operands[0].dtype
        if dtype.itemsize == 2:  # float16 computes in float32, as NumPy does
            wide = self.math(name, *[self.cast(operand, np.float32) for operand in operands])
            return self.cast(wide, dtype)
        function = (name, dtype, lanes, self.inline_math)
        self.functions.add(function)
        kind = llvm_type(dtype, lanes)
        arguments = ", ".join(f"{kind} {operand.name}" for operand in operands)
        return self.let(f"call {kind} @{math_symbol(*function)}({arguments})", dtype, lanes)

    # --- arithmetic: x, y of one dtype

    def add(self, x: Value, y: Value) -> Value:
        return self.or_(x, y) if x.dtype == BOOL else self._binary("fadd" if x.dtype.kind == "f" else "add", x, y)

    def sub(self, x: Value, y: Value) -> Value:
        return self._binary("fsub" if x.dtype.kind == "f" else "sub", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        return self.and_(x, y) if x.dtype == BOOL else self._binary("fmul" if x.dtype.kind == "f" else "mul", x, y)

    def div(self, x: Value, y: Value) -> Value:
        """True division of floats."""
        return self._binary("fdiv", x, y)

    def rem(self, x: Value, y: Value) -> Value:
        """The exact remainder of floats, with the dividend's sign (C's fmod)."""
        return self.math("fmod", x, y)

    def int_div(self, x: Value, y: Value) -> Value:
        """Integer quotient, rounded towards zero; a zero divisor, and min / -1, do not trap: they give 0 and min."""
        one, zero = self.like(y, 1), self.like(y, 0)
        divided = self._binary("udiv" if x.dtype.kind == "u" else "sdiv", x, self._safe_divisor(x, y, one))
        return self.select(self.eq(y, zero), zero, self._minus_one_fixed(x, y, divided))

    def int_rem(self, x: Value, y: Value) -> Value:
        """Integer remainder with the dividend's sign; a zero divisor gives 0."""
        one, zero = self.like(y, 1), self.like(y, 0)
        rest = self._binary("urem" if x.dtype.kind == "u" else "srem", x, self._safe_divisor(x, y, one))
        return self.select(self.eq(y, zero), zero, rest)

    def _safe_divisor(self, x: Value, y: Value, one: Value) -> Value:
        unsafe = self.eq(y, self.like(y, 0))
        if x.dtype.kind == "i":  # min / -1 overflows, which traps
            unsafe = self.or_(unsafe, self.eq(y, self.like(y, -1)))
        return self.select(unsafe, one, y)

    def _minus_one_fixed(self, x: Value, y: Value, quotient: Value) -> Value:
        if x.dtype.kind != "i":
            return quotient
        return self.select(self.eq(y, self.like(y, -1)), self.neg(x), quotient)

    def neg(self, x: Value) -> Value:
        if x.dtype.kind == "f":
            return self.let(f"fneg {llvm_type(x.dtype, x.lanes)} {x.name}", x.dtype, x.lanes)
        return self.sub(self.like(x, 0), x)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        return self.intrinsic("fma", x, y, z)

    def sqrt(self, x: Value) -> Value:
        return self.intrinsic("sqrt", x)

    def abs(self, x: Value) -> Value:
        if x.dtype.kind == "f":
            return self.intrinsic("fabs", x)
        if x.dtype.kind in "ub":
            return x
        return self.select(self.lt(x, self.like(x, 0)), self.neg(x), x)

    def floor(self, x: Value) -> Value:
        return self.intrinsic("floor", x)

    def ceil(self, x: Value) -> Value:
        return self.intrinsic("ceil", x)

    def trunc(self, x: Value) -> Value:
        return self.intrinsic("trunc", x)

    def rint(self, x: Value) -> Value:
        """To the nearest integer, ties to even."""
        return self.intrinsic("roundeven", x)

    def copysign(self, magnitude: Value, sign: Value) -> Value:
        return self.intrinsic("copysign", magnitude, sign)

    # --- bits

    def and_(self, x: Value, y: Value) -> Value:
        return self._binary("and", x, y)

    def or_(self, x: Value, y: Value) -> Value:
        return self._binary("or", x, y)

    def xor(self, x: Value, y: Value) -> Value:
        return self._binary("xor", x, y)

    def not_(self, x: Value) -> Value:
        return self.xor(x, self.constant(True, BOOL) if x.dtype == BOOL else self.like(x, -1))

    def shift_left(self, x: Value, y: Value) -> Value:
        """x << y; shifting by the width or more gives 0, as NumPy does."""
        return self._shift("shl", x, y, self.like(x, 0))

    def shift_right(self, x: Value, y: Value) -> Value:
        """x >> y, keeping the sign; shifting by the width or more gives 0 or -1."""
        signed = x.dtype.kind == "i"
        beyond = self.select(self.lt(x, self.like(x, 0)), self.like(x, -1), self.like(x, 0)) if signed else self.like(x, 0)
        return self._shift("ashr" if signed else "lshr", x, y, beyond)

    def _shift(self, opcode: str, x: Value, y: Value, beyond: Value) -> Value:
        lanes, (x, y) = self._aligned(x, y)
        width = Value(splat(8 * x.dtype.itemsize, x.dtype, lanes), x.dtype, lanes)
        kind = llvm_type(x.dtype, lanes)
        inside = self.let(f"icmp ult {kind} {y.name}, {width.name}", BOOL, lanes)
        return self.select(inside, self._binary(opcode, x, self.select(inside, y, self.like(y, 0))), beyond)

    # --- comparisons: bool results, false with nan (but `ne`)

    def _compare(self, x: Value, y: Value, floats: str, signed: str) -> Value:
        if x.dtype.kind == "f":
            return self._binary(f"fcmp {floats}", x, y, BOOL)
        if x.dtype.kind in "ub" and signed not in ("eq", "ne"):
            signed = "u" + signed[1:]
        return self._binary(f"icmp {signed}", x, y, BOOL)

    def lt(self, x: Value, y: Value) -> Value:
        return self._compare(x, y, "olt", "slt")

    def le(self, x: Value, y: Value) -> Value:
        return self._compare(x, y, "ole", "sle")

    def gt(self, x: Value, y: Value) -> Value:
        return self._compare(x, y, "ogt", "sgt")

    def ge(self, x: Value, y: Value) -> Value:
        return self._compare(x, y, "oge", "sge")

    def eq(self, x: Value, y: Value) -> Value:
        return self._compare(x, y, "oeq", "eq")

    def ne(self, x: Value, y: Value) -> Value:
        return self._compare(x, y, "une", "ne")

    def is_nan(self, x: Value) -> Value:
        return self._binary("fcmp uno", x, x, BOOL)

    def sign_bit(self, x: Value) -> Value:
        """Whether a float's sign bit is set (-0.0 and negative nan too)."""
        integer = np.dtype(f"int{8 * x.dtype.itemsize}")
        bits = self.bitcast(x, integer)
        return self.lt(bits, self.like(bits, 0))

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        """x where `condition` is true, else y."""
        lanes, (condition, x, y) = self._aligned(condition, x, y)
        kind = llvm_type(x.dtype, lanes)
        return self.let(f"select {llvm_type(BOOL, lanes)} {condition.name}, {kind} {x.name}, {kind} {y.name}", x.dtype, lanes)

    # --- conversions

    def bitcast(self, x: Value, dtype) -> Value:
        dtype = np.dtype(dtype)
        return self.let(f"bitcast {llvm_type(x.dtype, x.lanes)} {x.name} to {llvm_type(dtype, x.lanes)}", dtype, x.lanes)

    def cast(self, x: Value, dtype) -> Value:
        """NumPy's `astype`: to bool is `!= 0`; float to integer truncates; what does not fit wraps or saturates."""
        dtype = np.dtype(dtype)
        if dtype == x.dtype:
            return x
        if dtype == BOOL:
            return self.ne(x, self.like(x, 0))
        opcode = _conversion(x.dtype, dtype)
        kind = llvm_type(dtype, x.lanes)
        if opcode is None:  # integers of one width
            return Value(x.name, dtype, x.lanes)
        if opcode in ("fptosi", "fptoui"):  # out of range is undefined in plain LLVM: saturate
            return self._saturated(opcode, x, dtype, kind)
        return self.let(f"{opcode} {llvm_type(x.dtype, x.lanes)} {x.name} to {kind}", dtype, x.lanes)

    def _saturated(self, opcode: str, x: Value, dtype: np.dtype, kind: str) -> Value:
        source = llvm_type(x.dtype, x.lanes)
        prefix = f"v{x.lanes}" if x.lanes else ""
        function = f"@llvm.{opcode}.sat.{prefix}{scalar_type(dtype)}.{prefix}f{8 * x.dtype.itemsize}"
        self.declared.add(f"declare {kind} {function}({source})")
        return self.let(f"call {kind} {function}({source} {x.name})", dtype, x.lanes)


def _conversion(source: np.dtype, target: np.dtype) -> str | None:
    """The LLVM opcode that converts `source` to `target` (not bool), or None when the bits stay."""
    if source.kind == "f" and target.kind == "f":
        return "fpext" if target.itemsize > source.itemsize else "fptrunc"
    if source.kind == "f":
        return "fptosi" if target.kind == "i" else "fptoui"
    if target.kind == "f":
        return "sitofp" if source.kind == "i" else "uitofp"
    if source == BOOL:
        return "zext"
    if source.itemsize == target.itemsize:
        return None
    if source.itemsize > target.itemsize:
        return "trunc"
    return "sext" if source.kind == "i" else "zext"


def math_symbol(name: str, dtype: np.dtype, lanes: int, inline: bool) -> str:
    """The IR name of the mathematics library's `name` on `lanes` elements of `dtype`."""
    return f"jg.{name}.{f'v{lanes}' if lanes else ''}f{8 * dtype.itemsize}{'' if inline else '.called'}"
