"""Vector math: errors against mpmath, special values as NumPy gives them, vectorised loops."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import llvmlite.binding as llvm
import numpy as np
import pytest
import scipy.special
from llvmlite import ir

from jitgrad.backends.vector_math import FUNCTIONS
from jitgrad.backends.vector_math.lanes import MathModule

ROOT = Path(__file__).resolve().parents[1]
DTYPES = ("float64", "float32")
CASES = [(name, dtype) for name in FUNCTIONS for dtype in DTYPES]
# Everything else stays below one unit in the last place.
ULP_BOUNDS = {"erfc": 1.5, "erfinv": 2.0, "lgamma": 4.0, "digamma": 4.0}


def _load_ulp_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_ulp", ROOT / "bench" / "ulp.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ulp = _load_ulp_script()


@pytest.fixture(scope="module")
def loops() -> object:
    return ulp.CompiledLoops(FUNCTIONS, DTYPES)


def reference(name: str, *arrays: np.ndarray) -> np.ndarray:
    """NumPy's or SciPy's value in the arrays' dtype."""
    ours = {
        "sigmoid": scipy.special.expit,
        "softplus": lambda x: np.logaddexp(x, x.dtype.type(0.0)),
        "erf": scipy.special.erf,
        "erfc": scipy.special.erfc,
        # SciPy loses the sign of zero.
        "erfinv": lambda x: np.copysign(scipy.special.erfinv(x), x),
        # SciPy has lgamma(-inf) = -inf, C (F.9.5.3) has inf; and it overflows at the smallest subnormal.
        "lgamma": lambda x: np.where(
            x == -np.inf,
            np.inf,
            np.where(np.abs(x) < np.finfo(x.dtype).tiny, -np.log(np.abs(x)), scipy.special.gammaln(x)),
        ).astype(x.dtype),
        "digamma": scipy.special.digamma,
        "rsqrt": lambda x: 1 / np.sqrt(x),
    }
    with np.errstate(all="ignore"):
        return ours[name](*arrays) if name in ours else getattr(np, name)(*arrays)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_error_in_units_in_the_last_place(loops: object, name: str, dtype: str) -> None:
    worst, mean, place = ulp.measure(loops, name, dtype, 1000)
    assert worst <= ULP_BOUNDS.get(name, 1.0), (worst, place)
    assert mean < 0.5


def _special_values(dtype: str) -> np.ndarray:
    info = np.finfo(dtype)
    positive = [
        0.0,
        info.smallest_subnormal,
        info.tiny,
        1e-3,
        0.5,
        1.0,
        1.5,
        2.0,
        3.0,
        30.0,
        200.0,
        2000.0,
        info.max,
        np.inf,
    ]
    return np.array([*positive, *(-value for value in positive), np.nan], dtype)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_special_values_are_those_of_numpy(loops: object, name: str, dtype: str) -> None:
    values = _special_values(dtype)
    arrays = (values,)
    if ulp.SUBJECTS[name].arguments == 2:
        arrays = tuple(np.ascontiguousarray(grid.ravel()) for grid in np.meshgrid(values, values))
    expected, got = reference(name, *arrays), loops(name, *arrays)
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    marked = np.isinf(expected) | (expected == 0)
    np.testing.assert_array_equal(got[marked], expected[marked])
    assert np.array_equal(np.signbit(got[marked]), np.signbit(expected[marked]))
    finite = np.isfinite(expected) & ~marked
    np.testing.assert_allclose(
        got[finite],
        expected[finite],
        rtol=8 * np.finfo(dtype).eps,
        atol=2 * np.finfo(dtype).smallest_subnormal,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_cases(loops: object, dtype: str) -> None:
    kind = np.dtype(dtype).type
    exponents = np.arange(np.finfo(dtype).minexp, np.finfo(dtype).maxexp).astype(dtype)
    powers = np.ldexp(kind(1.0), exponents.astype(int))
    np.testing.assert_array_equal(loops("exp2", exponents), powers)
    np.testing.assert_array_equal(loops("log2", powers), exponents)
    tens = np.array([10.0**k for k in range(11)], dtype)
    np.testing.assert_array_equal(loops("log10", tens), np.arange(11))
    whole = np.arange(1, 200).astype(dtype)
    np.testing.assert_array_equal(loops("cbrt", whole**3), whole)
    np.testing.assert_array_equal(loops("power", whole, np.full_like(whole, 2.0)), whole**2)
    np.testing.assert_array_equal(loops("power", -whole, np.full_like(whole, 3.0)), -(whole**3))
    np.testing.assert_array_equal(loops("hypot", 3 * whole, 4 * whole), 5 * whole)


def test_the_hardest_angle(loops: object) -> None:
    # 6381956970095103 * 2**797 is the double closest to a multiple of pi/2 (Muller, "Elementary Functions",
    # 3rd ed., table 11.1).
    angle = np.full(9, 6381956970095103.0 * 2.0**797)
    np.testing.assert_allclose(loops("cos", angle), -4.6871659242546277e-19, rtol=3e-16)
    np.testing.assert_array_equal(loops("sin", angle), 1.0)
    mixed = np.where(np.arange(9) % 3 == 0, angle, 1.0)
    np.testing.assert_allclose(
        loops("cos", mixed), np.where(mixed == 1.0, np.cos(1.0), -4.6871659242546277e-19), rtol=3e-16
    )


def test_gamma_functions_of_negative_arguments(loops: object) -> None:
    points = -np.random.default_rng(0).uniform(0.01, 30.0, 300)
    points = points[np.abs(points - np.rint(points)) > 1e-3]
    # The relative error is bounded by that of the terms of the reflection, which cancel near the zeros.
    with ulp.mp.workprec(200):
        truth = {
            name: np.array([float(ulp.mp.re(function(ulp.mp.mpf(x)))) for x in points])
            for name, function in (("lgamma", ulp.mp.loggamma), ("digamma", ulp.mp.digamma))
        }
    np.testing.assert_allclose(loops("lgamma", points), truth["lgamma"], rtol=1e-15, atol=1e-13)
    np.testing.assert_allclose(loops("digamma", points), truth["digamma"], rtol=1e-14, atol=1e-14)


# fmod holds a loop of its own: explicit vectors alone widen it.
@pytest.mark.parametrize(("name", "dtype"), [case for case in CASES if case[0] != "fmod"])
def test_the_loop_is_vectorised(loops: object, name: str, dtype: str) -> None:
    text = re.search(rf"^{name}_{dtype}:(.*?)^\.Lfunc_end", loops.assembly, re.DOTALL | re.MULTILINE).group(1)
    packed = "pd" if dtype == "float64" else "p[sd]"
    assert re.search(rf"v(fn?m(add|sub)\d*|sqrt){packed}\s.*%[yz]mm", text) or re.search(r"fmla\s+v", text)
    # sin, cos and tan keep the scalar call for huge arguments.
    assert name in ("sin", "cos", "tan") or not re.search(r"\s(callq|bl)\s", text)


def _explicit_vectors(dtype: str, width: int, scaling: bool) -> dict[str, Callable]:
    """Every function on `width` lanes: name -> f(arrays..., result), each of `width` elements."""
    module, kind = MathModule(scaling), ir.VectorType(ulp.FLOAT_TYPES[dtype], width)
    for name, emit in FUNCTIONS.items():
        pointers = [ir.PointerType()] * (ulp.SUBJECTS[name].arguments + 1)
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), pointers), f"vector_{name}")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        *loaded, place = function.args
        builder.store(
            emit(builder, *(builder.load(x, typ=kind, align=4) for x in loaded)), place, align=4
        )
        builder.ret_void()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()

    def run(name: str, *arrays: np.ndarray) -> np.ndarray:
        result = np.empty_like(arrays[0])
        call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(arrays) + 1))(
            engine.get_function_address(f"vector_{name}")
        )
        for start in range(0, result.size, width):
            call(*(array.ctypes.data + start * array.itemsize for array in (*arrays, result)))
        return result

    return {name: partial(run, name) for name in FUNCTIONS}


@pytest.mark.parametrize("dtype", DTYPES)
def test_explicit_vectors_give_the_same_bits_whatever_lanes_are_rare(loops: object, dtype: str) -> None:
    """Rare arguments (huge angles, huge quotients, results beyond the range) in every mix of lanes."""
    width = 64 // np.dtype(dtype).itemsize  # the registers of AVX-512
    random = np.random.default_rng(3)
    tiny = np.finfo(dtype).smallest_subnormal
    rare = np.array([1e22, -1e30, np.inf, np.nan, 3 * tiny, -0.0, 2000.0, -708.5, -87.6, 6.0e5], dtype)
    masks = random.integers(0, 2, (256, width), dtype=bool)
    masks[: width + 1] = np.tri(width + 1, width, -1, bool)
    x = np.where(masks, random.choice(rare, masks.shape), random.uniform(0.1, 0.9, masks.shape)).astype(dtype).ravel()
    y = np.where(np.roll(x, 5) > 100, x.dtype.type(7 * tiny), x.dtype.type(1.7))
    scaling = "+avx512f" in llvm.get_host_cpu_features().flatten().split(",")
    for spelling in {False, scaling}:
        for name, function in _explicit_vectors(dtype, width, spelling).items():
            arrays = (x, y)[: ulp.SUBJECTS[name].arguments]
            np.testing.assert_array_equal(function(*arrays), loops(name, *arrays), name)


CONSTANT_ARGUMENT_SCRIPT = """
import ctypes
import llvmlite.binding as llvm
from llvmlite import ir
from jitgrad.backends.vector_math import FUNCTIONS

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
module, double = ir.Module("constant"), ir.DoubleType()
function = ir.Function(module, ir.FunctionType(double, []), "f")
builder = ir.IRBuilder(function.append_basic_block("entry"))
angle = ir.Constant(double, 6381956970095103.0 * 2.0**797)
sine = FUNCTIONS["sin"](builder, angle)
cosine = FUNCTIONS["cos"](builder, angle)
tangent = FUNCTIONS["tan"](builder, angle)
builder.ret(builder.fmul(builder.fmul(cosine, tangent), sine))
machine = llvm.Target.from_default_triple().create_target_machine(opt=3, jit=True)
parsed = llvm.parse_assembly(str(module))
builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
builder.getModulePassManager().run(parsed, builder)
engine = llvm.create_mcjit_compiler(parsed, machine)
engine.finalize_object()
print(ctypes.CFUNCTYPE(ctypes.c_double)(engine.get_function_address("f"))())
"""


def test_a_huge_constant_angle_compiles() -> None:
    # In a process of its own: LLVM exits when a pass leaves the attributes of a function invalid.
    done = subprocess.run(
        [sys.executable, "-c", CONSTANT_ARGUMENT_SCRIPT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) == pytest.approx(1.0, abs=1e-15)
