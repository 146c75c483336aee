"""A few random programs, the same ones each time; bench/fuzz.py runs as many as there is time for."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import fuzz
from bench.fuzz import Disagreement, Refusals, check, check_duality, compare, derivatives, run_function, run_seed, shrunk
from bench.numpy_programs import random_function
from bench.programs import layout_of, random_program
from jitgrad.ir import interpret
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph
from jitgrad.ir.node import call, fresh_input, interning
from jitgrad.ir.text import from_text

GRAPHS, FUNCTIONS, BATCH = 160, 40, 20


@pytest.mark.parametrize("first", range(0, GRAPHS, BATCH))
def test_random_graphs(first):
    for seed in range(first, first + BATCH):
        run_seed(seed)


@pytest.mark.parametrize("first", range(0, FUNCTIONS, BATCH))
def test_random_functions(first):
    for seed in range(first, first + BATCH):
        with suppress(Refusals):  # what cannot be done is said, which is not what this test is about
            run_function(seed)


# Programs that once were wrong, as the fuzzer printed them.
FOUND = {
    "a view of a view of arithmetic": """
def graph(x0: "f64[31,5,6]", x1: "f64[31,5,6]", x2: "bool[31,5,6]"):
    v3 = select(x2, x0, x1)
    v4 = slice(v3, starts=(0, 3, 2), counts=(10, 1, 1), steps=(3, 3, -1))
    v5 = reshape(v4, shape=(10, 1))
    return v5
""",
    "a sliced product of one term": """
def graph(x0: "f64[1,8]", x1: "f64[1,1]"):
    v2 = matmul(x1, x0)
    v3 = slice(v2, starts=(0, 4), counts=(1, 3), steps=(2, -2))
    return v3
""",
    "nothing reduced to nothing": """
def graph(x0: "f64[3,0,0]", x1: "f64[3,129,0]"):
    v2 = reduce_min(x0, axes=(0,))
    v3 = reduce_sum(x1, axes=(0,))
    v4 = reduce_sum(x1, axes=(2,))
    v5 = slice(v4, starts=(0, 0), counts=(0, 0), steps=(1, 1))
    return v2, v3, v4, v5
""",
    "counting along an axis of no elements": """
def graph(x0: "i64[7,0,2]"):
    v1 = iota(shape=(7, 0, 2), axis=0, dtype=i64)
    v2 = remainder(v1, x0)
    return v2
""",
    "a product over no terms": """
def graph(x0: "f64[0,33]", x1: "f64[1,0]"):
    v2 = matmul(x1, x0)
    return v2
""",
    "many additions to one place": """
def graph(x0: "f64[5]", x1: "f64[17]", x2: "f64[4,3]", x3: "f64[9,3]"):
    v4 = constant(-2, i64)
    v5 = broadcast(v4, shape=(17,), axes=())
    v6 = scatter_add(x0, x1, v5)
    v7 = broadcast(v4, shape=(9,), axes=())
    v8 = scatter_add(x2, x3, v7)
    return v6, v8
""",
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name):
    with interning():
        graph = from_text(FOUND[name])
        rng = np.random.default_rng(0)
        check(graph, [np.asarray(rng.integers(-5, 5, node.shape)).astype(node.dtype) for node in graph.inputs])


# --- that the comparison finds what is wrong


def one_node(name: str, array: np.ndarray) -> tuple[Graph, list[np.ndarray]]:
    x = fresh_input(aval_of(array.shape, array.dtype))
    return Graph((x,), (call(name, x, axes=(0,)) if name.startswith("reduce") else call(name, x),)), [array]


def test_exact_results_must_be_equal():
    with interning():
        graph, arrays = one_node("negative", np.arange(4.0))
    expected = interpret.run(graph, arrays)
    wrong = [expected[0] + np.array([0, 0, 0, 1e-15])]
    compare("same", graph, arrays, expected, expected)
    with pytest.raises(Disagreement, match=r"differs at 1 of 4 places; at \(3,\)"):
        compare("wrong", graph, arrays, expected, wrong)


def test_sums_may_differ_by_units_of_their_terms():
    array = np.array([1e16, 1.0, -1e16, 1.0])
    with interning():
        graph, arrays = one_node("reduce_sum", array)
    expected = interpret.run(graph, arrays)
    compare("another order", graph, arrays, expected, [np.array(2.0)])
    with pytest.raises(Disagreement):
        compare("wrong", graph, arrays, expected, [expected[0] + 1e4])


def test_functions_may_differ_by_units_in_the_last_place():
    with interning():
        graph, arrays = one_node("sin", np.array([1.0, 2.0]))
    expected = interpret.run(graph, arrays)
    compare("an ulp", graph, arrays, expected, [np.nextafter(expected[0], 2)])
    with pytest.raises(Disagreement):
        compare("wrong", graph, arrays, expected, [expected[0] * (1 + 1e-11)])


def test_nan_is_not_a_number_and_shapes_count():
    with interning():
        graph, arrays = one_node("negative", np.array([np.nan, 1.0]))
    expected = interpret.run(graph, arrays)
    compare("nan", graph, arrays, expected, [expected[0].copy()])
    for wrong in (np.array([0.0, -1.0]), np.array([np.nan, np.nan]), expected[0][:1], expected[0].astype("f4")):
        with pytest.raises(Disagreement):
            compare("wrong", graph, arrays, expected, [wrong])


def test_wrong_derivatives_are_found():
    with interning():
        rng = np.random.default_rng(0)
        x = fresh_input(aval_of((3,), "f8"))
        program = fuzz.Program(Graph((x,), (call("sin", x),)), [rng.normal(size=3)], "numeric")
        whole, outputs = derivatives(program, rng)
        check_duality(whole, outputs)
        value, moved, pulled = whole.graph.outputs
        whole.graph = Graph(whole.graph.inputs, (value, moved, pulled * 1.5))
        with pytest.raises(Disagreement, match="duality"):
            check_duality(whole, outputs)


def test_failures_are_made_smaller(monkeypatch):
    """With every tanh taken for a failure, what is left is one tanh."""

    def suspicious(graph, arrays):
        if any(node.primitive.name == "tanh" for node in graph.nodes):
            raise Disagreement("tanh")

    monkeypatch.setattr(fuzz, "check", suspicious)
    with interning():
        for seed in range(200):
            program = random_program(np.random.default_rng(seed))
            if fuzz.fails(program.graph, program.arrays, Disagreement):
                graph, arrays = shrunk(program.graph, program.arrays, Disagreement)
                assert [node.primitive.name for node in graph.nodes if node.operands] == ["tanh"]
                assert [array.shape for array in arrays] == [node.shape for node in graph.inputs]
                return
    raise AssertionError("no program has a tanh")


# --- that the programs are what they should be


def test_programs_are_reproducible():
    for seed in range(20):
        with interning():
            first, second = (random_program(np.random.default_rng(seed)) for _ in range(2))
        for a, b in zip(first.arrays, second.arrays, strict=True):
            np.testing.assert_array_equal(a, b)
        assert random_function(np.random.default_rng(seed)).source == random_function(np.random.default_rng(seed)).source


def test_programs_reach_what_they_should():
    """Most primitives, layouts that are not C order, sizes of 0 and 1, several outputs."""
    primitives, layouts, extents, outputs = set(), 0, set(), 0
    for seed in range(300):
        with interning():
            program = random_program(np.random.default_rng(seed))
        primitives |= {node.primitive.name for node in program.graph.nodes}
        layouts += any(layout_of(array) is not None for array in program.arrays)
        extents |= {extent for node in program.graph.nodes for extent in node.shape}
        outputs += len(program.graph.outputs) > 1
    wanted = "gather scatter_add place slice transpose reshape concatenate matmul cumsum reduce_sum reduce_max select iota cast"
    assert set(wanted.split()) <= primitives
    assert layouts > 60 and outputs > 60 and {0, 1, 7, 8, 9, 31, 33, 1000} <= extents


def test_check_runs_on_a_plain_program():
    with interning():
        x = fresh_input(aval_of((3,), "f8"))
        check(Graph((x,), (call("sin", x),)), [np.arange(3.0)])
