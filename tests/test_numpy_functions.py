"""NumPy's functions on traced arrays, in bulk: results are NumPy's, gradients those of differences."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from jitgrad.errors import JitgradError, UsageIndexError, UsageValueError
from jitgrad.frontend.array import Array
from jitgrad.ir.verify import verify
from jitgrad.runtime.compile import compile_graph
from jitgrad.transforms.forward import pushforward
from jitgrad.transforms.reverse import pullback
from tests.numpy_cases import GROUPS, SHAPES
from tests.traced_helpers import assert_same, evaluate, session

DTYPES = ("f8", "f4", "f2", "i8", "i1", "u1", "?")
TOLERANCE = {"f8": (1e-12, 1e-13), "f4": (2e-5, 1e-6), "f2": (1e-2, 5e-3)}
# NumPy subtracts a bool from an integer here, as its doubling of a bool gives one.
REFUSED = {("?", "np.pad(v, 2, mode='reflect', reflect_type='odd')"),
           ("?", "np.pad(x, 2, mode='symmetric', reflect_type='odd')")}  # fmt: skip

every_group = pytest.mark.parametrize("group", GROUPS)


def sample(name: str, dtype: str, rng) -> np.ndarray:
    shape = SHAPES[name]
    if dtype == "?":
        array = np.asarray(rng.random(shape) < 0.5)
    elif dtype[0] == "f":
        array = np.asarray(rng.uniform(-1.3, 1.7, shape)).astype(dtype)
    else:
        array = np.asarray(rng.integers(0 if dtype[0] == "u" else -3, 4, shape)).astype(dtype)
    return np.sort(array) if name.isupper() else array


def leaves(result) -> list:
    return (
        [leaf for part in result for leaf in leaves(part)] if isinstance(result, (tuple, list)) else [result]
    )


def function_of(expression: str):
    """The expression as a function, and the names of its arguments."""
    names = [name for name in SHAPES if re.search(rf"\b{name}\b", expression)]
    return eval(f"lambda {', '.join(names)}: leaves(({expression}))", {"np": np, "leaves": leaves}), names


def expected_of(function, arguments):
    """NumPy's results, or its error."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return function(*arguments)
        except Exception as error:  # whatever it is, ours must be an error too
            return error


def found_by(function, arguments):
    with session() as opened:
        results = function(*[opened.input(argument) for argument in arguments])
        verify(opened.graph([r.node for r in results if isinstance(r, Array)]))
        computed = iter(opened.compute([r.node for r in results if isinstance(r, Array)]))
        return [next(computed) if isinstance(r, Array) else r for r in results]


def difference(found, expected) -> str | None:
    """What is wrong with `found`, or None."""
    found, expected = np.asarray(found), np.asarray(expected)
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        return f"{found.dtype}{found.shape} in place of {expected.dtype}{expected.shape}"
    relative, absolute = TOLERANCE.get(expected.dtype.str[1:], (0, 0))
    if np.allclose(found.astype(float), expected.astype(float), relative, absolute, equal_nan=True):
        return None
    return f"{found.ravel()[:4]} in place of {expected.ravel()[:4]}"


@every_group
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_are_those_of_numpy(group, dtype):
    rng = np.random.default_rng(0)
    wrong = []
    for expression in GROUPS[group]:
        function, names = function_of(expression)
        arguments = [sample(name, dtype, rng) for name in names]
        expected = expected_of(function, arguments)
        if isinstance(expected, Exception) or (dtype, expression) in REFUSED:
            with pytest.raises(JitgradError):
                found_by(function, arguments)
            continue
        found = found_by(function, arguments)
        assert len(found) == len(expected), expression
        wrong += [
            f"{expression}: {w}" for f, e in zip(found, expected, strict=True) if (w := difference(f, e))
        ]
    assert not wrong, "\n".join(wrong)


# --- gradients


def derivative_check(expression: str, rng) -> str | None:
    """For random weights w and a direction d, w . df(d) by the pullback, the pushforward and differences."""
    function, names = function_of(expression)
    arguments = [sample(name, "f8", rng) for name in names]
    directions = [rng.uniform(-1, 1, a.shape) for a in arguments]
    with session() as opened:
        results = function(*[opened.input(argument) for argument in arguments])
        places = [k for k, r in enumerate(results) if isinstance(r, Array) and r.dtype.kind == "f"]
        outputs = [results[k].node for k in places]
        if not outputs:
            return None
        inputs = list(opened.inputs)
        weights = [opened.input(rng.uniform(-1, 1, o.shape).astype(o.dtype)) for o in outputs]
        tangents = [opened.input(direction).node for direction in directions]
        backward = pullback(outputs, inputs, [w.node for w in weights])
        forward = pushforward(outputs, inputs, tangents)
        gradient = _computed(opened, backward)
        tangent = _computed(opened, forward)
        scale = [opened.values[opened.inputs.index(w.node)].astype(float) for w in weights]
    by_pullback = sum(
        float(np.sum(g * d)) for g, d in zip(gradient, directions, strict=True) if g is not None
    )
    by_pushforward = sum(float(np.sum(s * t)) for s, t in zip(scale, tangent, strict=True) if t is not None)
    narrow = any(o.dtype != np.float64 for o in outputs)
    if abs(by_pullback - by_pushforward) > (1e-5 if narrow else 1e-11) * (1 + abs(by_pullback)):
        return f"{expression}: pullback {by_pullback}, pushforward {by_pushforward}"
    if narrow:  # differences of single precision say nothing
        return None
    by_differences = _differences(function, arguments, directions, scale, places)
    if abs(by_pullback - by_differences) > 2e-6 * (1 + abs(by_pullback)):
        return f"{expression}: pullback {by_pullback}, differences {by_differences}"
    return None


def _computed(opened, nodes) -> list:
    computed = iter(opened.compute([node for node in nodes if node is not None]))
    return [None if node is None else next(computed) for node in nodes]


def _differences(function, arguments, directions, weights, places) -> float:
    h, total = 1e-6, 0.0
    sides = [
        expected_of(function, [a + s * h * d for a, d in zip(arguments, directions, strict=True)])
        for s in (1, -1)
    ]
    for k, weight in zip(places, weights, strict=True):
        total += float(np.sum(weight * (sides[0][k] - sides[1][k]))) / (2 * h)
    return total


@every_group
def test_gradients(group):
    rng = np.random.default_rng(1)
    wrong = [found for expression in GROUPS[group] if (found := derivative_check(expression, rng))]
    assert not wrong, "\n".join(wrong)


def second_derivative_check(expression: str, rng) -> str | None:
    """Compares the gradient's derivative along a random direction with differences of the gradient."""
    function, names = function_of(expression)
    arguments = [sample(name, "f8", rng) for name in names]
    directions = [rng.uniform(-1, 1, a.shape) for a in arguments]
    with session() as opened:
        results = function(*[opened.input(argument) for argument in arguments])
        outputs = [r.node for r in results if isinstance(r, Array) and r.dtype == np.float64]
        inputs = list(opened.inputs)
        weights = [opened.input(rng.uniform(-1, 1, o.shape)) for o in outputs]
        tangents = [opened.input(direction).node for direction in directions]
        gradient = [g for g in pullback(outputs, inputs, [w.node for w in weights]) if g is not None]
        along = pushforward(gradient, inputs, tangents)
        found = _computed(opened, along)
        sides = []
        for step in (1e-6, -1e-6):
            opened.values[: len(arguments)] = [
                a + step * d for a, d in zip(arguments, directions, strict=True)
            ]
            sides.append(opened.compute(gradient))
    for one, up, down in zip(found, *sides, strict=True):
        difference = (up - down) / 2e-6
        one = np.zeros_like(difference) if one is None else one
        if not np.allclose(one, difference, 1e-5, 1e-5 * (1 + np.abs(up).max(initial=0))):
            return f"{expression}: {one.ravel()[:4]}, differences {difference.ravel()[:4]}"
    return None


@every_group
def test_second_derivatives(group):
    rng = np.random.default_rng(4)
    wrong = [found for expression in GROUPS[group] if (found := second_derivative_check(expression, rng))]
    assert not wrong, "\n".join(wrong)


@every_group
def test_compiled_in_one_graph(group):
    """All values of a group, and the gradient of their weighted sum, by one executable."""
    rng = np.random.default_rng(2)
    arguments = {name: sample(name, "f8", rng) for name in SHAPES}
    with session() as opened:
        traced = {name: opened.input(array) for name, array in arguments.items()}
        outputs = []
        for expression in GROUPS[group]:
            function, names = function_of(expression)
            outputs += [r.node for r in function(*[traced[name] for name in names]) if isinstance(r, Array)]
        outputs = list(dict.fromkeys(outputs))
        floats = [o for o in outputs if o.dtype == np.float64]
        weights = [opened.input(rng.uniform(-1, 1, o.shape)).node for o in floats]
        found = pullback(floats, [t.node for t in traced.values()], weights)
        graph = opened.graph([*outputs, *[g for g in found if g is not None]])
        values = [*opened.values, *[c.array for c in opened.trace.captured]]
        expected = opened.compute(graph.outputs)
    results = compile_graph(graph)(*values)
    wrong = [
        f"{k}: {w}" for k, (r, e) in enumerate(zip(results, expected, strict=True)) if (w := difference(r, e))
    ]
    assert not wrong, "\n".join(wrong)


# --- nan, infinities and empty arrays in values

SPECIAL = [
    "np.max(x)",
    "np.min(x, axis=1)",
    "np.argmax(x)",
    "np.argmin(x, axis=1)",
    "np.nanmax(x, axis=0)",
    "np.nanmin(x)",
    "np.nansum(x, axis=1)",
    "np.nanmean(x, axis=1)",
    "np.nanvar(x, axis=1)",
    "np.nanstd(x, axis=0, ddof=1)",
    "np.sort(x)",
    "np.argsort(x, kind='stable')",
    "np.median(x, axis=1)",
    "np.nanmedian(x, axis=1)",
    "np.quantile(x, 0.4, axis=1)",
    "np.nanquantile(x, [0.4, 1], axis=1)",
    "np.nan_to_num(x)",
    "np.any(x, axis=1)",
    "np.nan_to_num(x, nan=1, posinf=2, neginf=-3)",
    "np.clip(x, 0, 1)",
    "np.isclose(x, x, equal_nan=True)",
    "np.isclose(x, -x)",
    "np.array_equal(x, x, equal_nan=True)",
    "np.array_equal(x, x)",
    "np.isposinf(x)",
    "np.isneginf(x)",
    "np.searchsorted([-1.0, 0.5, np.inf, np.nan], x)",
    "np.interp(x, [0.0, 1.0], [5.0, 6.0])",
    "np.searchsorted([-1.0, 0.5, np.nan, np.nan], x, side='right')",
    "np.sinc(x)",
    "np.fix(x)",
    "np.angle(x)",
    "np.where(x > 0, x, -x)",
    "np.nancumsum(x, axis=1)",
    "np.nancumprod(x, axis=0)",
    "np.mean(x, axis=1)",
    "np.max(x, initial=-np.inf, where=x > 0, axis=1)",
    "np.round(x, 1)",
    "np.digitize(x, [0.0, 1.0])",
    "np.ptp(x, 1)",
    "np.linalg.norm(x, np.inf)",
    "np.linalg.norm(x, axis=1)",
    "np.std(x, axis=1)",
    "np.isin(x, [np.nan, 0.5])",
    "np.gradient(x, axis=0)",
    "np.interp(x, [1.0], [2.0])",
    "np.nanquantile(x, np.array([0.2, 0.9]), axis=1, method='midpoint')",
]


@pytest.mark.parametrize("expression", SPECIAL)
def test_nan_and_infinity(expression):
    x = np.array([[0.5, np.nan, 2.0], [np.inf, -1.5, -np.inf], [np.nan, np.nan, np.nan], [-0.0, 0.0, 1.0]])
    function, _ = function_of(expression)
    for found, expected in zip(found_by(function, [x]), expected_of(function, [x]), strict=True):
        assert difference(found, expected) is None


EMPTY = [
    "np.sum(e)",
    "np.prod(e, axis=0)",
    "np.sum(e, axis=1)",
    "np.max(e, axis=1)",
    "np.max(e, axis=0, initial=2.0)",
    "np.max(e)",
    "np.argmax(e, axis=0)",
    "np.argmax(e, axis=1)",
    "np.mean(e, axis=0)",
    "np.var(e, axis=1)",
    "np.std(e)",
    "np.sort(e)",
    "np.cumsum(e, axis=0)",
    "np.concatenate([e, e])",
    "np.stack([e, e])",
    "np.reshape(e, (3, 0))",
    "np.dot(e, x.T[:3])",
    "e @ s",
    "s @ e.T",
    "np.einsum('ij,jk->ik', e, s)",
    "np.tile(e, (2, 2))",
    "np.repeat(e, 2, 1)",
    "np.roll(e, 2)",
    "np.diff(e, axis=1)",
    "np.diff(e, axis=0)",
    "np.flip(e)",
    "np.take(e, [], axis=0)",
    "np.ravel(e)",
    "np.take(e, [0], axis=0)",
    "np.linalg.norm(e)",
    "np.linalg.norm(e, axis=1)",
    "np.median(e, axis=0)",
    "np.where(e > 0, e, 1.0)",
    "np.array_split(e, 2, axis=1)",
    "np.transpose(e)",
    "np.pad(e, 1)",
    "np.kron(e, s)",
    "np.nanmax(e, axis=1)",
    "np.nanmean(e, axis=0)",
    "np.isin(x, e)",
    "np.searchsorted(np.zeros(0), e)",
    "np.outer(e, v)",
    "np.quantile(e, 0.5, axis=0)",
    "np.quantile(e, 0.5, axis=1)",
    "np.nanquantile(e, [0.5], axis=1)",
    "np.nanmedian(e)",
    "np.pad(e, 1, mode='edge')",
    "np.pad(e, ((0, 0), (1, 2)), mode='linear_ramp')",
    "np.pad(e, ((1, 0), (0, 0)), mode='mean')",
    "np.take(e.T, [0], axis=1)",
    "np.take(np.zeros((4, 0, 0)) + c, [0], axis=2)",
]


@pytest.mark.parametrize("expression", EMPTY)
def test_empty(expression):
    function, names = function_of(expression)
    rng = np.random.default_rng(3)
    arguments = [sample(name, "f8", rng) for name in names]
    expected = expected_of(function, arguments)
    if isinstance(expected, Exception):
        with pytest.raises((UsageValueError, UsageIndexError)):
            found_by(function, arguments)
        return
    for found, wanted in zip(found_by(function, arguments), expected, strict=True):
        assert difference(found, wanted) is None


def test_mixed_dtypes_promote_as_in_numpy():
    single, double, small, flag = (
        np.ones((2, 2), "f4"),
        np.full((2, 2), 2.0),
        np.ones((2, 2), "i1"),
        np.eye(2, dtype=bool),
    )
    for f in (
        lambda a, b: np.where(a > 0, a, b),
        lambda a, b: np.concatenate([a, b]),
        lambda a, b: np.dot(a, b),
        lambda a, b: np.stack([a, b]),
        lambda a, b: np.einsum("ij,jk->ik", a, b),
        lambda a, b: np.outer(a, b),
        lambda a, b: np.average(a, weights=b),
        lambda a, b: np.append(a, b),
        lambda a, b: np.where(a > 0, a, 2),
        lambda a, b: np.where(a > 0, 1.5, b),
        lambda a, b: np.clip(a, 0, 0.5),
        lambda a, b: np.kron(a, b),
        lambda a, b: a @ b,
        lambda a, b: np.select([a > 0], [a], 0.5),
        lambda a, b: np.isclose(a, b),
        lambda a, b: np.tensordot(a, b),
        lambda a, b: np.full_like(a, 2.7),
        lambda a, b: np.linspace(a, 3, 4),
        lambda a, b: np.interp(a, [0, 1], [2, 3]),
        lambda a, b: np.mean(a, dtype=int),
        lambda a, b: np.sum(b, dtype="i2"),
        lambda a, b: np.quantile(a.astype("f4"), 0.2),
    ):
        for a in (single, double, small, flag):
            for b in (single, double, small, flag):
                expected = expected_of(f, [a, b])
                if isinstance(expected, Exception):
                    with pytest.raises(JitgradError):
                        evaluate(f, a, b)
                else:
                    assert difference(evaluate(f, a, b), expected) is None


def test_a_traced_python_number_stays_weak():
    single = np.ones(3, "f4")
    assert evaluate(lambda x, c: np.where(x > 0, x, c), single, 2.0).dtype == np.float32
    assert evaluate(lambda x, c: np.clip(x, 0, c), single, 2.0).dtype == np.float32
    assert evaluate(lambda x, c: np.concatenate([x, np.stack([c])]), single, 2.0).dtype == np.float64


# --- einsum, drawn at random


def random_einsum(rng) -> tuple[str, list[tuple[int, ...]]]:
    extents = dict(zip("abcdef", rng.integers(1, 4, 6), strict=True))
    terms = ["".join(rng.choice(list("abcdef"), rng.integers(0, 4))) for _ in range(rng.integers(1, 5))]
    used = sorted(set("".join(terms)))
    output = "".join(rng.permutation([name for name in used if rng.random() < 0.5])) if used else ""
    arrow = f"->{output}" if rng.random() < 0.8 else ""
    lead = "..." if rng.random() < 0.3 else ""
    shapes = []
    for term in terms:
        extra = (2, 3)[2 - rng.integers(0, 3) :] if lead else ()
        shapes.append((*extra, *[int(extents[name]) for name in term]))
    return ",".join(lead + term for term in terms) + (f"->{lead}{output}" if arrow else ""), shapes


def test_einsum_at_random():
    rng = np.random.default_rng(5)
    wrong = []
    for _ in range(150):
        subscripts, shapes = random_einsum(rng)
        arguments = [np.asarray(rng.uniform(-1, 1, shape)) for shape in shapes]
        expected = expected_of(lambda *xs, s=subscripts: [np.einsum(s, *xs)], arguments)
        assert not isinstance(expected, Exception), (subscripts, shapes, expected)
        found = evaluate(lambda *xs, s=subscripts: np.einsum(s, *xs), *arguments)
        if problem := difference(found, expected[0]):
            wrong.append(f"{subscripts} of {shapes}: {problem}")
    assert not wrong, "\n".join(wrong)


def test_a_long_einsum_is_contracted_pairwise():
    x = np.full((40, 40), 0.1)
    with session() as opened:
        a = opened.input(x)
        nodes = opened.graph([np.einsum("ab,bc,cd,de->ae", a, a, a, a).node]).nodes
    assert max(node.aval.size for node in nodes) == 1600


def test_wide_gathers_and_runs_of_picks():
    x = np.arange(40.0)
    places = np.random.default_rng(0).permutation(40)
    assert_same(evaluate(lambda x: np.delete(x, places[:20]), x), np.delete(x, places[:20]))
    counts = np.arange(40) % 3
    assert_same(evaluate(lambda x: np.repeat(x, counts), x), np.repeat(x, counts))
