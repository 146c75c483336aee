"""Print a table of the errors of the vector math functions, in units in the last place, against mpmath.

    python bench/ulp.py [--functions exp,log] [--samples N] [--dtype float32]

Samples: log-uniform over all exponents (subnormals included), uniform over the interval where the function
lives, and dense around its zeros, poles and the breakpoints of its reduction. The truth has 130 bits;
mpmath reduces huge arguments itself.
"""

from __future__ import annotations

import argparse
import ctypes
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import llvmlite.binding as llvm
import mpmath
import numpy as np
from llvmlite import ir
from mpmath import mp

from jitgrad.backends.vector_math import FUNCTIONS

FLOAT_TYPES = {"float64": ir.DoubleType(), "float32": ir.FloatType()}
PRECISION = {"float64": 53, "float32": 24}
TRUTH_BITS = 130


@dataclass(frozen=True)
class Subject:
    """One function: its truth, the interval sampled uniformly, the points around which samples are dense."""

    truth: Callable[..., object]
    interval: tuple[float, float]
    near: tuple[float, ...] = ()
    arguments: int = 1
    within: tuple[float, float] = (-math.inf, math.inf)


def _sigmoid(x: mpmath.mpf) -> mpmath.mpf:
    return 1 / (1 + mp.exp(-x)) if x >= 0 else mp.exp(x) / (1 + mp.exp(x))


def _cbrt(x: mpmath.mpf) -> mpmath.mpf:
    return mp.sign(x) * mp.cbrt(abs(x))


def _power(x: mpmath.mpf, y: mpmath.mpf) -> mpmath.mpf:
    """x**y without an integer power of astronomical size; exponents beyond any float are cut."""
    if x == 0 or y == 0:
        return mp.mpf(float(x) ** float(y)) if y >= 0 else mp.inf
    sign = -1 if x < 0 and int(y) % 2 else 1
    exponent = y * mp.log(abs(x))
    return sign * mp.exp(max(min(exponent, 2000), -2000))


def _fmod(x: mpmath.mpf, y: mpmath.mpf) -> mpmath.mpf:
    """Of exact integers: both are multiples of the smallest subnormal."""
    a, b = (int(abs(value) * mp.mpf(2) ** 1074) for value in (x, y))
    return mp.sign(x) * mp.mpf(a % b) / mp.mpf(2) ** 1074


def _erfc(x: mpmath.mpf) -> mpmath.mpf:
    """mpmath fails on astronomically large arguments."""
    return mp.erfc(max(min(x, 40), -40))


_QUARTER_TURNS = tuple(k * math.pi / 4 for k in (1, 2, 3, 4, 6, 8, 100, 12345, 7654321)) + (
    2.0**20,
    1e22,
    6381956970095103.0 * 2.0**797,
)
SUBJECTS = {
    "exp": Subject(mp.exp, (-745.2, 709.8), (0.35, -0.35, 709.78, -708.4, -745.1, 88.7, -87.3, -103.9)),
    "exp2": Subject(
        lambda x: mp.exp(x * mp.ln2),
        (-1075.0, 1024.0),
        (0.5, -0.5, 1.0, 1023.9, -1022.0, 127.9, -126.0, -149.0),
    ),
    "expm1": Subject(mp.expm1, (-40.0, 709.8), (0.34657, -0.34657, 1.04, -1.04, 709.78, 88.7, -36.7)),
    "sigmoid": Subject(_sigmoid, (-745.2, 40.0), (1.0, -1.0, 36.7, -708.4, -745.1, -87.3, -103.9)),
    "sinh": Subject(mp.sinh, (-710.5, 710.5), (0.34657, 1.04, 1.0, 2.0, 710.47, 89.41)),
    "cosh": Subject(mp.cosh, (-710.5, 710.5), (0.34657, 1.04, 1.0, 2.0, 710.47, 89.41)),
    "tanh": Subject(mp.tanh, (-20.0, 20.0), (0.1733, 0.52, 1.0, 19.06, 9.01)),
    "log": Subject(mp.log, (0.0, 10.0), (0.70710678, 1.0, 1.41421356, 2.0), within=(0.0, math.inf)),
    "log2": Subject(
        lambda x: mp.log(x) / mp.ln2, (0.0, 10.0), (0.70710678, 1.0, 1.41421356, 2.0), within=(0.0, math.inf)
    ),
    "log10": Subject(
        mp.log10, (0.0, 10.0), (0.70710678, 1.0, 1.41421356, 2.0, 1000.0), within=(0.0, math.inf)
    ),
    "log1p": Subject(mp.log1p, (-1.0, 10.0), (-0.29289, 0.41421356, -1.0, 1.0), within=(-1.0, math.inf)),
    "softplus": Subject(
        lambda x: mp.log1p(mp.exp(x)), (-745.2, 40.0), (1.0, -1.0, 0.88, -0.88, 36.0, -708.4, -87.3)
    ),
    "arcsinh": Subject(mp.asinh, (-5.0, 5.0), (0.5, 0.36, 0.74, 1.0, 2.0**28, 2.0**500)),
    "arccosh": Subject(mp.acosh, (1.0, 10.0), (1.0, 1.06, 1.25, 2.0), within=(1.0, math.inf)),
    "arctanh": Subject(mp.atanh, (-1.0, 1.0), (0.17, 0.333, 0.5, 1.0), within=(-1.0, 1.0)),
    "sin": Subject(mp.sin, (-100.0, 100.0), _QUARTER_TURNS),
    "cos": Subject(mp.cos, (-100.0, 100.0), _QUARTER_TURNS),
    "tan": Subject(mp.tan, (-100.0, 100.0), _QUARTER_TURNS),
    "arcsin": Subject(mp.asin, (-1.0, 1.0), (0.5, 1.0, -0.5), within=(-1.0, 1.0)),
    "arccos": Subject(mp.acos, (-1.0, 1.0), (0.5, 1.0, -0.5, -1.0), within=(-1.0, 1.0)),
    "arctan": Subject(mp.atan, (-5.0, 5.0), (0.41421356, 1.0, 2.41421356)),
    "arctan2": Subject(mp.atan2, (-5.0, 5.0), (0.41421356, 1.0, 2.41421356), arguments=2),
    "rsqrt": Subject(lambda x: 1 / mp.sqrt(x), (0.0, 10.0), (1.0, 2.0, 4.0), within=(0.0, math.inf)),
    "cbrt": Subject(_cbrt, (-10.0, 10.0), (1.0, 2.0, 4.0, 8.0)),
    "hypot": Subject(mp.hypot, (-5.0, 5.0), (1.0, 3.0, 4.0), arguments=2),
    "fmod": Subject(_fmod, (0.0, 50.0), (1.0, 2.0, 0.5), arguments=2),
    "power": Subject(_power, (0.0, 50.0), (1.0, 2.0, 0.5), arguments=2),
    "erf": Subject(mp.erf, (-6.0, 6.0), (0.84375, 1.0, 1.25, 5.9)),
    "erfc": Subject(_erfc, (-6.0, 27.3), (0.5, 0.84375, 1.0, 1.25, 26.5, 10.0)),
    "erfinv": Subject(mp.erfinv, (-1.0, 1.0), (0.5, 0.97, 1.0), within=(-1.0, 1.0)),
    # Positive arguments: near the zeros on the negative axis the error is small absolutely only.
    "lgamma": Subject(mp.loggamma, (0.0, 40.0), (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 8.5), within=(0.0, math.inf)),
    "digamma": Subject(
        mp.digamma, (0.0, 40.0), (1.0, 1.4616321449683623, 2.0, 3.0, 9.0), within=(0.0, math.inf)
    ),
}


# ---- compiling loops over arrays
# -------------------------------------------------------------------------------------------------


def loop_module(names: Iterable[str], dtypes: Iterable[str]) -> ir.Module:
    """A module with a loop ``void NAME_DTYPE(arguments..., result, count)`` for each function and dtype."""
    module = ir.Module("vector_math_loops")
    for name in names:
        for dtype in dtypes:
            _add_loop(module, name, dtype)
    return module


def _add_loop(module: ir.Module, name: str, dtype: str) -> None:
    pointer, count_type = ir.PointerType(), ir.IntType(64)
    arity = SUBJECTS[name].arguments
    function = ir.Function(
        module, ir.FunctionType(ir.VoidType(), [pointer] * (arity + 1) + [count_type]), f"{name}_{dtype}"
    )
    for argument in function.args[:-1]:
        argument.add_attribute("noalias")
    entry, body, done = (function.append_basic_block(label) for label in ("entry", "body", "done"))
    builder = ir.IRBuilder(entry)
    count = function.args[-1]
    builder.cbranch(builder.icmp_signed(">", count, count_type(0)), body, done)
    builder.position_at_end(body)
    index = builder.phi(count_type)
    index.add_incoming(count_type(0), entry)
    kind = FLOAT_TYPES[dtype]
    places = [builder.gep(array, [index], source_etype=kind) for array in function.args[:-1]]
    result = FUNCTIONS[name](builder, *(builder.load(place, typ=kind) for place in places[:-1]))
    builder.store(result, places[-1])
    following = builder.add(index, count_type(1))
    index.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), body, done)
    ir.IRBuilder(done).ret_void()


class CompiledLoops:
    """The loops as machine code of this host: ``loops(name, *arrays)``; ``assembly`` is their text."""

    def __init__(self, names: Iterable[str], dtypes: Iterable[str]) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, jit=True
        )
        self.module = llvm.parse_assembly(str(loop_module(names, dtypes)))
        self.module.triple = llvm.get_default_triple()
        self.module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = options.slp_vectorization = True
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(self.module, builder)
        self.assembly = machine.emit_assembly(self.module)
        self._engine = llvm.create_mcjit_compiler(self.module, machine)
        self._engine.finalize_object()

    def __call__(self, name: str, *arrays: np.ndarray) -> np.ndarray:
        result = np.empty_like(arrays[0])
        address = self._engine.get_function_address(f"{name}_{result.dtype.name}")
        pointers = [array.ctypes.data for array in (*arrays, result)]
        ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(pointers), ctypes.c_int64)(address)(
            *pointers, result.size
        )
        return result


# ---- samples ---------------------------------------------------------------------------------------------
# ------------------------


def sample(subject: Subject, dtype: str, count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """``count`` points for each argument, within the domain of the function."""
    random = np.random.default_rng(seed)
    arrays = [_sample_argument(subject, dtype, count, random) for _ in range(subject.arguments)]
    for array in arrays[1:]:
        random.shuffle(array)
    if subject.truth is _power:
        arrays = _power_pairs(*arrays, random)
    return tuple(arrays)


def _sample_argument(subject: Subject, dtype: str, count: int, random: np.random.Generator) -> np.ndarray:
    info = np.finfo(dtype)
    third = count // 3
    low, high = subject.interval
    with np.errstate(over="ignore"):
        exponents = random.uniform(info.minexp - info.nmant - 1, info.maxexp, third)
        spread = np.exp2(exponents.astype(np.longdouble)) * random.choice([-1.0, 1.0], third)
        inside = random.uniform(low, high, third)
        centres = random.choice(np.array(subject.near or (low, high)), count - 2 * third)
        offsets = np.exp2(random.uniform(-info.nmant - 1, -1, centres.size)) * random.choice(
            [-1.0, 1.0], centres.size
        )
        points = np.concatenate([spread, inside, centres * (1 + offsets)]).astype(dtype)
    points = np.where(points < subject.within[0], -points, points)
    usable = np.isfinite(points) & (points > subject.within[0]) & (points <= subject.within[1])
    return np.where(usable, points, points.dtype.type(min(1.0, high) if high > 0 else low))


def _power_pairs(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """Most pairs with x**y within the range of the format, some negative bases with integer exponents."""
    base = np.abs(x)
    limit = np.log(np.finfo(x.dtype).max) * 1.06
    with np.errstate(all="ignore"):
        inside = (random.uniform(-limit, limit, x.size) / np.log(base.astype(np.float64))).astype(x.dtype)
    chosen = np.isfinite(inside) & (random.random(x.size) < 0.8)
    exponent = np.where(chosen, inside, y)
    negative = random.random(x.size) < 0.1
    return [
        np.where(negative, -base, base),
        np.where(negative, np.rint(np.clip(exponent, -1e6, 1e6)), exponent).astype(x.dtype),
    ]


# ---- errors ----------------------------------------------------------------------------------------------
# ------------------------


def errors(subject: Subject, points: tuple[np.ndarray, ...], got: np.ndarray) -> np.ndarray:
    """|got - truth| in units in the last place of the truth (subnormal spacing below the normal range)."""
    with mp.workprec(TRUTH_BITS):
        return np.array([_error(subject, value, point) for value, *point in zip(got, *points, strict=True)])


def _error(subject: Subject, value: np.floating, point: list[np.floating]) -> float:
    truth = subject.truth(*(mp.mpf(float(coordinate)) for coordinate in point))
    info = np.finfo(value.dtype)
    precision = PRECISION[value.dtype.name]
    largest = (2 - mp.mpf(2) ** -precision) * mp.mpf(2) ** (info.maxexp - 1)
    if abs(truth) >= largest:
        return 0.0 if float(value) == math.copysign(math.inf, float(mp.sign(truth))) else math.inf
    if not math.isfinite(value):
        return math.inf
    exponent = int(mp.frexp(truth)[1]) if truth else info.minexp - 1
    spacing = max(exponent - precision, info.minexp - precision + 1)
    return float(abs(mp.mpf(float(value)) - truth) * mp.mpf(2) ** -spacing)


def measure(
    loops: CompiledLoops, name: str, dtype: str, count: int
) -> tuple[float, float, tuple[float, ...]]:
    """(worst, mean, where the worst is)."""
    points = sample(SUBJECTS[name], dtype, count)
    found = errors(SUBJECTS[name], points, loops(name, *points))
    worst = int(np.argmax(found))
    return float(found[worst]), float(found.mean()), tuple(float(array[worst]) for array in points)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--functions", default=",".join(FUNCTIONS), help="comma-separated names")
    parser.add_argument("--samples", type=int, default=20000, help="points per function and dtype")
    parser.add_argument("--dtype", choices=sorted(FLOAT_TYPES), help="one dtype only")
    options = parser.parse_args()
    names = options.functions.split(",")
    dtypes = [options.dtype] if options.dtype else list(FLOAT_TYPES)
    loops = CompiledLoops(names, dtypes)
    print(f"{'function':10} {'dtype':8} {'worst ulp':>9} {'mean ulp':>9}  worst at")
    for name in names:
        for dtype in dtypes:
            worst, mean, place = measure(loops, name, dtype, options.samples)
            print(
                f"{name:10} {dtype:8} {worst:9.3f} {mean:9.3f}  {', '.join(repr(x) for x in place)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
