"""The passes: what each rule does, that values stay the same bit by bit, and the gate they go through."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jitgrad
from bench.fuzz import compare
from bench.programs import random_program
from jitgrad import ops
from jitgrad.config import config
from jitgrad.errors import InternalError
from jitgrad.ir import interpret
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph, structure
from jitgrad.ir.node import Node, call, constant, fresh_input, full, interning
from jitgrad.ir.text import to_text
from jitgrad.ir.verify import verify
from jitgrad.passes import pipeline
from jitgrad.passes.pipeline import PASSES, optimize, pass_names
from jitgrad.passes.places import join_places
from jitgrad.passes.products import expand_products
from jitgrad.passes.scatters import chain_scatters
from jitgrad.passes.simplify import RULES, simplify
from jitgrad.passes.views import lift_broadcasts, sink_views
from jitgrad.runtime.compile import compile_graph

SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, -0.75, 5e-324, 1e308, -1e308, np.inf, -np.inf, np.nan)


@pytest.fixture(autouse=True)
def scope():
    with interning():
        yield


def vector(dtype="f8", n: int = 12) -> Node:
    return fresh_input(aval_of((n,), dtype))


def special(shape: tuple[int, ...], dtype, seed: int = 0) -> np.ndarray:
    """Values with every special one among them, if there is room."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind != "f":
        return np.asarray(rng.integers(0 if dtype.kind == "u" else -4, 5, shape)).astype(dtype)
    with np.errstate(all="ignore"):
        return np.resize(rng.permutation(np.array(SPECIAL)), shape).astype(dtype)


def run(graph: Graph) -> list[np.ndarray]:
    return interpret.run(graph, [special(n.shape, n.dtype, k) for k, n in enumerate(graph.inputs)])


def bits(array: np.ndarray, signed_zeros: bool) -> np.ndarray:
    """The array's bits; every nan is the same, and unless `signed_zeros` every zero."""
    if not signed_zeros and array.dtype.kind == "f":
        array = np.where(array == 0, np.zeros_like(array), array)
    array = np.where(np.isnan(array), np.full_like(array, np.nan), array) if array.dtype.kind == "f" else array
    return array.reshape(array.shape + (1,)).view(np.uint8)


def assert_same(before: Graph, after: Graph, signed_zeros: bool = True) -> None:
    """Equal bit by bit, -0.0 told from 0.0."""
    verify(after)
    for a, b in zip(run(before), run(after), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(bits(a, signed_zeros), bits(b, signed_zeros))


def names(graph: Graph) -> list[str]:
    return [node.primitive.name for node in graph.nodes if node.operands]


# --- simplify: one case at least per rule; (what is left, how it is made)

x64, x32, whole, flag = (lambda: vector("f8")), (lambda: vector("f4")), (lambda: vector("i8")), (lambda: vector("?"))


def number(value, x: Node) -> Node:
    return full(value, x.aval)


def part(x: Node, start: int) -> Node:
    return call("slice", x, starts=(start,), counts=(3,), steps=(1,))


def spread(x: Node, shape: tuple[int, ...], axes: tuple[int, ...]) -> Node:
    """A broadcast that no builder simplifies."""
    return call("broadcast", x, shape=shape, axes=axes)


CASES: dict[str, list[tuple[list[str], Callable[[], Node], Callable[[Node], Node]]]] = {
    "derivatives_are_done": [([], x64, lambda x: call("stop_gradient", x))],
    "multiply_by_unit": [
        ([], x64, lambda x: x * 1.0),
        ([], x32, lambda x: 1.0 * x),
        (["negative"], x64, lambda x: x * -1.0),
        (["negative"], whole, lambda x: call("multiply", number(-1, x), x)),
    ],
    "divide_by_unit": [([], x64, lambda x: x / 1.0), (["negative"], x32, lambda x: x / -1.0)],
    "subtract_zero": [([], x64, lambda x: x - 0.0), (["add"], x64, lambda x: x - -call("sin", x))],
    "add_negation": [
        (["subtract"], x64, lambda x: x + -call("sin", x)),
        (["subtract"], x64, lambda x: -call("sin", x) + x),
        ([], whole, lambda x: x + 0),
        ([], whole, lambda x: 0 + x),
    ],
    "unmask": [
        (["broadcast", "multiply"], x64, lambda x: call("masked_product", number(2.0, x), x, both=0)),
        (["broadcast", "multiply"], x64, lambda x: call("masked_product", x, number(2.0, x), both=0)),
        (["broadcast", "masked_product"], x64, lambda x: call("masked_product", number(0.0, x), x, both=0)),
        (["broadcast", "masked_product"], x64, lambda x: call("masked_product", x, number(np.inf, x), both=0)),
        (["masked_product"], x64, lambda x: call("masked_product", x, x, both=1)),
    ],
    "negate_twice": [([], x64, lambda x: call("negative", -x))],
    "small_powers": [
        ([], x64, lambda x: call("integer_power", x, exponent=1)),
        (["multiply"], x64, lambda x: call("integer_power", x, exponent=2)),
    ],
    "choose_among_equals": [
        ([], x64, lambda x: call("select", x > 0.0, x, x)),
        ([], x64, lambda x: call("select", full(True, aval_of(x.shape, "?")), x, x * 2.0)),
        ([], x64, lambda x: call("select", full(False, aval_of(x.shape, "?")), x * 2.0, x)),
    ],
    "fold_constants": [
        (["broadcast"], x64, lambda x: number(2.0, x) * number(3.0, x)),
        (["broadcast"], x64, lambda x: number(1.0, x) / number(0.0, x)),
        (["broadcast"], x64, lambda x: ops.cast(number(7, vector("i8")), "f4")),
        (["broadcast"], x64, lambda x: -number(0.0, x)),
        (["broadcast"], x64, lambda x: call("maximum", number(np.nan, x), number(1.0, x))),
    ],
    "merge_views": [
        ([], x64, lambda x: call("reshape", call("reshape", x, shape=(3, 4)), shape=(12,))),
        ([], x64, lambda x: call("slice", x, starts=(0,), counts=(12,), steps=(1,))),
        ([], x64, lambda x: call("transpose", x, axes=(0,))),
        (["broadcast"], x64, lambda x: spread(call("reshape", x, shape=(1, 12, 1)), (4, 3, 12, 7), (0, 2, 3))),
        (["reshape"], x64, lambda x: spread(call("reshape", x, shape=(1, 12, 1)), (1, 12, 1), (0, 1, 2))),
        (["broadcast"], x64, lambda x: spread(spread(x, (2, 12), (1,)), (5, 2, 12), (1, 2))),
    ],
    "store_over_store": [
        (["slice", "put"], x64, lambda x: ops.put(ops.put(x, part(x, 0), (2,), (1,)), part(x, 5), (2,), (1,))),
    ],
    "read_what_was_stored": [(["slice"], x64, lambda x: part(ops.put(x, part(x, 0), (2,), (1,)), 2))],
}  # fmt: skip
LISTED = [(rule, k) for rule, cases in CASES.items() for k in range(len(cases))]


@pytest.mark.parametrize("rule, k", LISTED, ids=lambda value: str(value))
def test_rules(rule, k):
    left, make_input, make = CASES[rule][k]
    x = make_input()
    graph = Graph((x,), (make(x),))
    found = simplify(verify(graph))
    made = [name for name in names(found) if name not in ("sin",)]
    assert made == left
    assert_same(graph, found, signed_zeros=rule != "unmask")  # a masked zero is 0.0 whatever its factors' signs


def test_every_rule_has_a_case():
    declared = {rewrite.__name__ for rewrites in RULES.values() for rewrite in rewrites}
    assert declared == set(CASES)


@pytest.mark.parametrize("primitive", sorted(RULES))
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.0, 2.0, np.inf, np.nan])
def test_rules_are_exact_beside_every_constant(primitive, value):
    """x op c and c op x, x with every special value: bit by bit what it was before."""
    if primitive not in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
        x = vector()
        if primitive in ("negative", "absolute", "stop_gradient"):
            graph = Graph((x,), (call(primitive, call(primitive, x)), call(primitive, x * value)))
        elif primitive == "integer_power":
            graph = Graph((x,), tuple(call(primitive, x * value, exponent=n) for n in (-2, -1, 0, 1, 2, 3)))
        else:
            return
        assert_same(graph, simplify(graph))
        return
    for dtype in ("f8", "f4"):
        x = vector(dtype)
        c = number(value, x)
        outputs = [call(primitive, x, c), call(primitive, c, x), call(primitive, -x, c), call(primitive, c, -x)]
        graph = Graph((x,), tuple(outputs))
        assert_same(graph, simplify(graph))


def test_what_is_not_exact_is_left_alone():
    x = vector()
    for make in (lambda: x * 0.0, lambda: x + 0.0, lambda: 0.0 - x, lambda: x / x, lambda: x - x):
        graph = Graph((x,), (make(),))
        assert structure(simplify(graph)) == structure(graph)


def test_multiplying_bools_by_true_is_left_alone():
    x = vector("?")
    graph = Graph((x,), (call("multiply", x, number(True, x)),))
    assert_same(graph, simplify(graph))


def test_new_nodes_are_blamed_on_the_line_of_the_old():
    x = vector()
    graph = Graph((x,), (call("integer_power", x, exponent=2),))
    line = graph.outputs[0].where
    (node,) = simplify(graph).outputs
    assert node.primitive.name == "multiply" and node.where == line


# --- products


@pytest.mark.parametrize("batch", [(), (2,), (1, 3)])
@pytest.mark.parametrize("rows, terms, columns", [(1, 5, 4), (4, 5, 1), (4, 1, 5), (1, 5, 1), (1, 1, 1), (3, 0, 1)])
def test_products_become_sums(batch, rows, terms, columns):
    a, b = fresh_input(aval_of((*batch, rows, terms), "f8")), fresh_input(aval_of((*batch, terms, columns), "f8"))
    graph = Graph((a, b), (ops.matmul(a, b),))
    found = verify(expand_products(graph))
    assert "matmul" not in names(found)
    arrays = [np.random.default_rng(k).integers(-9, 9, n.shape).astype("f8") for k, n in enumerate(graph.inputs)]
    np.testing.assert_array_equal(interpret.run(found, arrays)[0], interpret.run(graph, arrays)[0])


def test_full_products_stay():
    a, b = fresh_input(aval_of((3, 4), "f8")), fresh_input(aval_of((4, 2), "f8"))
    assert names(expand_products(Graph((a, b), (ops.matmul(a, b),)))) == ["matmul"]


# --- views


def place_sum(parts: list[tuple[Node, tuple, tuple]], shape: tuple[int, ...], others: list[Node] = ()) -> Node:
    """others + places, added up from the left."""
    terms = [*others, *(ops.place(x, shape, starts, steps) for x, starts, steps in parts)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


@pytest.mark.parametrize("case", ["rows", "reversed", "columns", "elements", "repeated", "beside others"])
def test_places_that_do_not_overlap_are_joined(case):
    n, m = 6, 4
    row = [vector(n=m) for _ in range(n)]
    other = fresh_input(aval_of((n, m), "f8"))
    match case:
        case "rows":
            parts = [(ops.reshape(x, (1, m)), (k, 0), (1, 1)) for k, x in enumerate(row)]
        case "reversed":
            parts = [(ops.reshape(x, (1, m)), (k, m - 1), (1, -1)) for k, x in enumerate(row)]
        case "columns":
            parts = [(ops.reshape(row[k], (m, 1)), (1, k), (1, 1)) for k in (3, 0, 1)]
        case "elements":
            parts = [(ops.reshape(ops.slice_axis(x, 0, 1, 1), (1, 1)), (k, k % m), (1, 1)) for k, x in enumerate(row)]
        case _:
            parts = [(ops.reshape(row[k], (1, m)), (k % 2, 0), (1, 1)) for k in range(5)]
    others = [other * 2.0] if case == "beside others" else []
    inputs = (*row, other)
    before = Graph(inputs, (place_sum(parts, (n, m), others),))
    after = join_places(before)
    verify(after)
    assert names(after).count("assemble") == 1 and "place" not in names(after)
    values = [np.random.default_rng(k).normal(size=x.shape) for k, x in enumerate(inputs)]
    expected, got = interpret.run(before, values)[0], interpret.run(after, values)[0]
    np.testing.assert_allclose(got, expected, rtol=1e-15)
    np.testing.assert_array_equal(compile_graph(after)(*values)[0], got)


def test_places_that_overlap_or_are_read_elsewhere_stay():
    x, y = vector(n=4), vector(n=4)
    overlapping = place_sum([(x, (0,), (1,)), (y, (2,), (1,))], (8,))
    interleaved = place_sum([(x, (0,), (2,)), (y, (1,), (2,))], (8,))
    seen = ops.place(x, (9,), (0,), (1,))
    for outputs in ((overlapping,), (interleaved,), (seen + ops.place(y, (9,), (5,), (1,)), seen)):
        graph = Graph((x, y), outputs)
        assert join_places(graph) is graph


def test_reads_of_an_unrolled_loop_send_back_one_array():
    def f(x):
        state = x[0]
        for k in range(1, len(x)):
            state = np.tanh(state + x[k]) * x[k - 1]
        return np.sum(state)

    x = np.random.default_rng(0).normal(size=(20, 5))
    with jitgrad.config(lift=False):
        text = str(jitgrad.show(jitgrad.grad(f), x))
    assert text.count("assemble(") == 1 and "place(" not in text
    np.testing.assert_allclose(jitgrad.jit(jitgrad.grad(f))(x), jitgrad.grad(f, tier="interpret")(x), rtol=1e-13)


def test_broadcasts_are_lifted_above_arithmetic():
    x, y = vector(n=4), vector(n=4)
    graph = Graph((x, y), (call("exp", ops.broadcast(x, (3, 4), (1,)) * ops.broadcast(y, (3, 4), (1,)) + 2.0),))
    found = lift_broadcasts(graph)
    assert names(found)[-1] == "broadcast"
    assert all(node.aval.size <= 4 for node in found.nodes[:-1])
    assert_same(graph, found)


def test_differently_broadcast_operands_stay():
    x, y = vector(n=4), vector(n=4)
    graph = Graph((x, y), (ops.broadcast(x, (4, 4), (1,)) * ops.broadcast(y, (4, 4), (0,)),))
    assert structure(lift_broadcasts(graph)) == structure(graph)


def test_views_sink_through_arithmetic():
    x, y = (fresh_input(aval_of((3, 4), "f8")) for _ in range(2))
    graph = Graph((x, y), (ops.transpose(call("exp", x * y), (1, 0)),))
    found = sink_views(graph)
    assert found.outputs[0].primitive.name == "exp"
    assert_same(graph, found)


def test_chains_of_views_sink_whole():
    x, y = (fresh_input(aval_of((6, 4), "f8")) for _ in range(2))
    sliced = ops.strided_slice(call("exp", x * y), (5, 0), (3, 4), (-2, 1))
    graph = Graph((x, y), (ops.reshape(ops.transpose(sliced, (1, 0)), (2, 6)),))
    found = sink_views(graph)
    assert found.outputs[0].primitive.name == "exp"
    assert_same(graph, found)


def test_values_wanted_elsewhere_are_not_sunk_into():
    x = fresh_input(aval_of((3, 4), "f8"))
    value = call("exp", x)
    graph = Graph((x,), (ops.transpose(value, (1, 0)), value))
    assert structure(sink_views(graph)) == structure(graph)


@pytest.mark.parametrize("name", pass_names())
def test_each_pass_keeps_the_values_of_random_programs(name):
    run_pass = dict(PASSES)[name]
    for seed in range(40):
        program = random_program(np.random.default_rng(seed))
        graph = program.graph
        found = verify(run_pass(graph), name)
        expected = interpret.run(graph, program.arrays)
        compare(name, graph, program.arrays, expected, interpret.run(found, program.arrays), seed)


def test_passes_come_to_rest():
    for seed in range(40):
        once = simplify(random_program(np.random.default_rng(seed)).graph)
        assert structure(simplify(once)) == structure(once)


# --- the gate


def polynomial() -> Graph:
    x = vector()
    return Graph((x,), (call("integer_power", x * 1.0, exponent=2) + call("negative", call("negative", -x)),))


def test_the_observer_sees_every_pass():
    seen = []
    optimize(polynomial(), lambda stage, graph, seconds: seen.append((stage, type(graph), seconds >= 0)))
    assert seen == [(f"pass:{name}", Graph, True) for name in pass_names()]


def test_passes_can_be_skipped():
    graph = polynomial()
    with config(skip=pass_names()):
        assert optimize(graph) is graph
    with config(skip=("simplify", "tidy")):
        assert "integer_power" in names(optimize(graph))
    assert "integer_power" not in names(optimize(graph))


def test_fuel_limits_rewrites_one_by_one():
    graph = polynomial()
    texts = []
    for fuel in (0, 1, 2, 3, 4, None):
        with config(fuel=fuel):
            found = optimize(graph)
        assert_same(graph, found)
        texts.append(to_text(found))
    assert texts[0] == to_text(graph)
    assert len(set(texts)) >= 4  # each unit of fuel does something
    assert texts[-1] == texts[-2]  # four are enough here


def test_zero_dimensional_constants_fold():
    graph = Graph((), (constant(2.0, "f8") * constant(4.0, "f8"),))
    found = simplify(graph)
    assert names(found) == []
    assert run(found)[0] == 8.0


@pytest.mark.parametrize("error", [KeyError("x"), InternalError("it does not fit")])
def test_a_failing_pass_is_named(error, monkeypatch):
    def broken(graph):
        raise error

    monkeypatch.setattr(pipeline, "PASSES", (("broken", broken),))
    with pytest.raises(InternalError, match="the pass broken failed: .*JITGRAD_SKIP=broken") as caught:
        optimize(polynomial())
    assert len(str(caught.value).splitlines()) < 8


def test_cotangents_of_gathers_are_added_to_one_array():
    x, v, w = (fresh_input(aval_of(shape, "f8")) for shape in ((5, 3), (4, 3), (2, 3)))
    i, j = fresh_input(aval_of((4,), "i8")), fresh_input(aval_of((2,), "i8"))
    zeros = full(0.0, x.aval)
    one, other = ops.scatter_add(zeros, v, i), ops.scatter_add(zeros, w, j)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=node.shape) for node in (x, v, w)] + [rng.integers(0, 5, node.shape) for node in (i, j)]
    for total, sums in (((x + one) + other, 0), (one + other, 0), (one + (x + other), 0), (one + one, 1)):
        graph = Graph((x, v, w, i, j), (total,))
        after = chain_scatters(graph)
        verify(after)
        assert names(after).count("add") == sums
        np.testing.assert_allclose(interpret.run(after, arrays)[0], interpret.run(graph, arrays)[0], rtol=1e-13)
    kept = Graph((x, v, w, i, j), (x + one, one))
    assert chain_scatters(kept).outputs == kept.outputs
