"""Generated from the declarations of all primitives: where views read, and values, interpreted and compiled.

Many operations are compiled in one graph; results are compared with NumPy's over special and random operands.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from jitgrad.ir.graph import Graph
from jitgrad.ir.interpret import run
from jitgrad.ir.node import apply, call, constant, full, interning
from jitgrad.ir.primitive import PRIMITIVES, View
from jitgrad.ir.verify import verify
from jitgrad.runtime.compile import compile_graph
from jitgrad.transforms.reverse import pullback
from tests.op_samples import (
    DTYPES,
    ELEMENTWISE,
    FLOATING,
    NAMES,
    arity,
    cases,
    floating_cases,
    inputs_for,
    operands,
    supports,
)

targets = pytest.mark.parametrize("target", ("numpy", "cpu"))


# --- views: where elements lie


def places(offset: int, shape, strides) -> np.ndarray:
    """The place in memory of every element."""
    axes = np.meshgrid(*[np.arange(extent) for extent in shape], indexing="ij", sparse=True)
    return offset + sum(
        (axis * stride for axis, stride in zip(axes, strides, strict=True)), np.zeros(shape, int)
    )


def layouts(shape):
    """Strides of C and Fortran order, with gaps, reversed, repeated."""
    c_order = [int(np.prod(shape[k + 1 :])) for k in range(len(shape))]
    yield tuple(c_order)
    yield tuple(int(np.prod(shape[:k])) for k in range(len(shape)))
    yield tuple(3 * stride for stride in c_order)
    yield tuple(-stride for stride in c_order)
    yield tuple(stride + 5 * (k == 0) for k, stride in enumerate(c_order))
    yield tuple(stride * (k % 2) for k, stride in enumerate(c_order))


def assert_view_is_numpys(name: str, shape, params) -> None:
    primitive = PRIMITIVES[name]
    for strides in layouts(shape):
        found = primitive.code.strided(1000, shape, strides, **params)
        memory = np.arange(3000, dtype="i8")
        x = np.lib.stride_tricks.as_strided(memory[1000:], shape, [8 * stride for stride in strides])
        expected = primitive.reference(x, **params)
        if found is None:
            assert name == "reshape" and not np.shares_memory(expected, memory), (shape, strides, params)
        else:
            np.testing.assert_array_equal(
                places(*found), expected, err_msg=f"{name} {shape} {strides} {params}"
            )


@pytest.mark.parametrize("name", [n for n in NAMES if isinstance(PRIMITIVES[n].code, View)])
def test_views_read_where_numpy_does(name):
    for (shape,), params in cases(PRIMITIVES[name]):
        assert_view_is_numpys(name, shape, params)


def test_reshapes_are_views_where_numpy_says_so():
    shapes = [
        (12,),
        (3, 4),
        (4, 3),
        (2, 6),
        (2, 2, 3),
        (3, 2, 2),
        (1, 12),
        (12, 1),
        (2, 1, 6),
        (1, 3, 1, 4, 1),
    ]
    for source, result in product(shapes, shapes):
        assert_view_is_numpys("reshape", source, {"shape": result})


# --- values, compiled: many operations in one graph

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -3.0, 10.0, -7.25, np.inf, -np.inf, np.nan]
TRANSCENDENTAL_ULPS = 4
TRANSCENDENTAL = set(
    [
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sin",
        "cos",
        "tan",
        "arcsin",
        "arccos",
        "arctan",
        "arctan2",
        "sinh",
        "cosh",
        "tanh",
        "arcsinh",
        "arccosh",
        "arctanh",
        "cbrt",
        "hypot",
        "power",
    ]
)
SIGN_OF_ZERO_IS_OPEN = {
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "reduce_max",
    "reduce_min",
}  # NumPy's differs by position


def special_values(dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info, width = np.iinfo(dtype), 8 * dtype.itemsize
        edges = {info.max, info.max - 1, info.max // 2, info.max // 2 + 1, info.min, info.min + 1}
        numbers = {*range(-3, 4), -7, 10, width - 1, width, width + 1, *edges}
        return np.array(sorted(n for n in numbers if info.min <= n <= info.max), dtype)
    info = np.finfo(dtype)
    edges = [info.max, info.tiny, info.smallest_subnormal, 1 / info.eps, info.eps]
    return np.array([*SPECIAL, *edges, *[-edge for edge in edges]], dtype)


def grid(values: np.ndarray, random, count: int) -> list[np.ndarray]:
    """All pairs (triples, ...) of `values`, then random ones."""
    columns = [np.array(column, values.dtype) for column in zip(*product(*[values] * count), strict=True)]
    return [np.concatenate([column, random()]) for column in columns]


def random_values(dtype: np.dtype, rng) -> np.ndarray:
    if dtype.kind == "b":
        return rng.random(40) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, 40, dtype, endpoint=True)
    wide = rng.standard_normal(40) * 10.0 ** rng.uniform(-3, 3, 40)
    return np.concatenate([wide, rng.uniform(-1.2, 1.2, 40)]).astype(dtype)


def exactness(name: str, dtype: np.dtype) -> int:
    """How many units in the last place a compiled value may be off."""
    return TRANSCENDENTAL_ULPS if name in TRANSCENDENTAL and dtype.kind == "f" else 0


def assert_same(name, found, expected, ulps, arguments):
    assert found.dtype == expected.dtype and found.shape == expected.shape, (
        name,
        found.dtype,
        expected.dtype,
    )
    if expected.dtype.kind != "f":
        wrong = found != expected
    else:
        wrong = ~((found == expected) | (np.isnan(found) & np.isnan(expected)))
        if ulps:
            with np.errstate(all="ignore"):
                spacing = np.spacing(np.abs(np.where(np.isfinite(expected), expected, 1)))
                near = np.abs(found.astype("f8") - expected.astype("f8")) <= ulps * spacing.astype("f8")
            wrong &= ~(near & np.isfinite(found) & np.isfinite(expected))
        elif name not in SIGN_OF_ZERO_IS_OPEN:
            wrong |= (np.signbit(found) != np.signbit(expected)) & (expected == 0)
    bad = np.flatnonzero(wrong)
    rows = [
        (tuple(a.flat[k] for a in arguments if a.size == wrong.size), found.flat[k], expected.flat[k])
        for k in bad[:6]
    ]
    assert not bad.size, f"{name}: {bad.size} of {wrong.size} differ; arguments, found, expected: {rows}"


def computed(graph: Graph, arrays, target: str) -> list[np.ndarray]:
    return run(graph, arrays) if target == "numpy" else compile_graph(graph)(*arrays)


def elementwise_columns(name: str, dtype: np.dtype, columns) -> list[int] | None:
    """Which of the columns (bools; then one, two of `dtype`) are the operands of `name`."""
    kind = "i" if dtype.kind == "u" else dtype.kind
    primitive = PRIMITIVES[name]
    if kind not in primitive.samples.kinds:
        return None
    if name == "select":
        return [0, 1, 2]
    if name == "power" and dtype.kind == "i":
        return [1, 3]
    return [1, 2][: arity(primitive)]


ALL_DTYPES = [d for kind in "fib" for d in DTYPES[kind]]


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@targets
def test_elementwise_values_over_special_and_random_operands(dtype, target):
    dtype, rng = np.dtype(dtype), np.random.default_rng(3)
    pairs = grid(special_values(dtype), lambda: random_values(dtype, rng), 2)
    exponents = np.abs(pairs[1]) if dtype.kind == "i" else pairs[1]
    exponents = np.where(exponents < 0, 3, exponents).astype(dtype)  # abs(min) is negative
    arrays = [np.arange(pairs[0].size) % 3 == 0, *pairs, exponents]
    with interning():
        inputs, rows = inputs_for(arrays), []
        for name in ELEMENTWISE:
            columns = elementwise_columns(name, dtype, arrays)
            for _, params in cases(PRIMITIVES[name]) if columns else ():
                if name != "cast" and supports(PRIMITIVES[name], dtype, params):
                    rows.append(
                        (
                            name,
                            columns,
                            params,
                            apply(PRIMITIVES[name], *[inputs[c] for c in columns], **params),
                        )
                    )
        found = computed(verify(Graph(inputs, tuple(row[-1] for row in rows))), arrays, target)
    for (name, columns, params, node), value in zip(rows, found, strict=True):
        given = [arrays[c] for c in columns]
        with np.errstate(all="ignore"):
            expected = np.asarray(PRIMITIVES[name].reference(*given, **params), node.dtype)
        assert_same(name, value, expected, exactness(name, dtype), given)


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@targets
def test_casts_between_all_dtypes(dtype, target):
    dtype, rng = np.dtype(dtype), np.random.default_rng(4)
    array = np.concatenate([special_values(dtype), random_values(dtype, rng)])
    if dtype == np.float64:  # near the middles between float16 numbers, where rounding twice goes wrong
        middles = (1 + (2 * np.arange(40) + 1) * 2.0**-11) * np.array([1, 2.0**-14, 2.0**-20, 2.0**14])[
            :, None
        ]
        array = np.concatenate([array, *[np.ravel(middles * (1 + e)) for e in (0, 2.0**-40, -(2.0**-40))]])
    arrays, results = [], []
    with interning():
        for target_dtype in map(np.dtype, ALL_DTYPES):
            given = in_range(array, target_dtype)
            (x,) = inputs_for([given])
            arrays.append(given)
            results.append((x, call("cast", x, dtype=target_dtype)))
        graph = Graph(tuple(x for x, _ in results), tuple(out for _, out in results))
        found = computed(verify(graph), arrays, target)
    for given, value, name in zip(arrays, found, ALL_DTYPES, strict=True):
        with np.errstate(all="ignore"):
            assert_same(f"cast {dtype} to {name}", value, given.astype(name), 0, [given])


def in_range(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Where a float is cast to an integer: only what fits, the rest is undefined in NumPy too."""
    if array.dtype.kind != "f" or dtype.kind not in "iu":
        return array
    info = np.iinfo(dtype)
    wide = array.astype("f8")
    return array[(np.trunc(wide) >= float(info.min)) & (np.trunc(wide) < float(info.max))]


@pytest.mark.parametrize("dtype", ("f8", "f4", "i8", "u1", "?"))
@targets
def test_values_of_what_is_not_elementwise(dtype, target):
    dtype, rng = np.dtype(dtype), np.random.default_rng(5)
    kind = "i" if dtype.kind == "u" else dtype.kind
    arrays, inputs, rows = [], [], []
    with interning():
        for name in NAMES:
            primitive = PRIMITIVES[name]
            if name in ELEMENTWISE or kind not in primitive.samples.kinds:
                continue
            for shapes, params in cases(primitive):
                given = operands(primitive, shapes, dtype, rng)
                nodes = inputs_for(given)
                rows.append((name, params, given, apply(primitive, *nodes, **params)))
                arrays += given
                inputs += nodes
        found = computed(verify(Graph(tuple(inputs), tuple(row[-1] for row in rows))), arrays, target)
    for (name, params, given, node), value in zip(rows, found, strict=True):
        expected = np.asarray(PRIMITIVES[name].reference(*given, **params), node.dtype)
        if node.dtype.kind == "f":
            eps = np.finfo(node.dtype).eps
            np.testing.assert_allclose(
                value, expected, rtol=64 * eps, atol=64 * eps, err_msg=f"{name} {params}"
            )
        else:
            assert_same(f"{name} {params}", value, expected, 0, given)


@pytest.mark.parametrize("group", range(4))
def test_compiled_gradients_agree_with_the_interpreter(group):
    arrays, inputs, outputs, labels = [], [], [], []
    with interning():
        for name in FLOATING[group::4]:
            for d, what in floating_cases(name):
                cotangent = constant(0.75, "f8") if not d.out.shape else full(0.75, d.out.aval)
                gradient = pullback([d.out], d.x, [cotangent])
                outputs += [g for g in gradient if g is not None]
                labels += [what for g in gradient if g is not None]
                arrays += d.arrays
                inputs += d.inputs
        graph = verify(Graph(tuple(inputs), tuple(outputs)))
        expected, found = run(graph, arrays), compile_graph(graph)(*arrays)
    for f, e, what in zip(found, expected, labels, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-13, atol=1e-14, err_msg=str(what))
