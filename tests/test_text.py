"""Graphs as text: printing, running the text, and getting the identical graph."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from op_samples import NAMES

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.programs import random_program
from jitgrad import ops
from jitgrad.errors import UsageValueError
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph, structure
from jitgrad.ir.node import call, constant, fresh_input, full, interning
from jitgrad.ir.primitive import PRIMITIVES
from jitgrad.ir.text import from_text, names_of, read_aval, to_text


@pytest.fixture(autouse=True)
def scope():
    with interning():
        yield


def vector(n: int = 3, dtype="f8"):
    return fresh_input(aval_of((n,), dtype))


def round_trip(graph: Graph) -> Graph:
    """The graph printed and run, on fresh inputs; and on the same inputs, where it must be the very same nodes."""
    text = to_text(graph)
    assert from_text(text, graph.inputs).outputs == graph.outputs
    found = from_text(text)
    assert structure(found) == structure(graph)
    return found


def test_a_line_per_node():
    x, y = vector(), vector()
    text = to_text(Graph((x, y), (call("sin", x) * y,)))
    lines = [line.split("#")[0].rstrip() for line in text.splitlines()]
    assert lines == [
        'def graph(x0: "f64[3]", x1: "f64[3]"):',
        "    v2 = sin(x0)",
        "    v3 = multiply(v2, x1)",
        "    return v3",
    ]
    assert "# f64[3]  test_text.py:" in text


@pytest.mark.parametrize("name", [*NAMES, "copy"])
def test_every_primitive_reads_back(name):
    primitive = PRIMITIVES[name]
    samples = primitive.samples
    dtype = {"f": "f8", "i": "i8", "b": "?"}[samples.kinds[0]]
    arity = getattr(primitive.ufunc, "nin", 1)
    cases = samples.cases or (((((2, 3),) * arity), {}),)
    for shapes, params in cases:
        avals = [
            aval_of(np.shape(s), np.asarray(s).dtype) if isinstance(s, np.ndarray) else aval_of(s, dtype) for s in shapes
        ]
        inputs = tuple(fresh_input(aval) for aval in avals)
        round_trip(Graph(inputs, (call(name, *inputs, **params),)))


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_read_back(seed):
    round_trip(random_program(np.random.default_rng(seed)).graph)


NUMBERS = [
    *(np.float64(v) for v in (0.0, -0.0, 1 / 3, 1e308, 5e-324, np.inf, -np.inf, np.nan, 2.0**53 + 2, np.pi)),
    *(np.float32(v) for v in (0.1, -0.0, 1e-45, 3.4028235e38, np.nan, 16777217)),
    *(np.float16(v) for v in (0.1, 65504, 6e-8)),
    -np.float64(np.nan),
    np.frombuffer(b"\x01\x00\x00\x00\x00\x00\xf8\x7f", np.float64)[0],  # a nan with a payload
    np.longdouble(1) / 3,
    *(np.int8(-128), np.uint8(255), np.int64(-(2**63)), np.uint64(2**64 - 1), np.bool_(True), np.bool_(False)),
]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number.dtype}-{number}")
def test_constants_keep_every_bit(number):
    found = round_trip(Graph((), (constant(number, number.dtype),)))
    value = found.outputs[0].params["value"]
    assert value.dtype == number.dtype
    assert np.array_equal(value, number, equal_nan=number.dtype.kind == "f")
    if number.dtype != np.longdouble:  # which has bytes of padding
        assert value.tobytes() == number.tobytes()


def test_unused_inputs_several_outputs_and_none():
    x, y = vector(), vector(4, "i4")
    found = round_trip(Graph((x, y), (x, call("sin", x), x)))
    assert [node.aval for node in found.inputs] == [x.aval, y.aval]
    assert found.outputs[0] is found.inputs[0] is found.outputs[2]
    assert round_trip(Graph((x,), ())).outputs == ()


def test_many_inputs_are_printed_one_a_line():
    inputs = tuple(vector(k + 1) for k in range(30))
    text = to_text(Graph(inputs, (inputs[3],)))
    assert max(map(len, text.splitlines())) <= 110
    assert round_trip(Graph(inputs, (inputs[3],))).inputs[29].aval == aval_of((30,), "f8")


def test_long_graphs():
    x = vector()
    node = x
    for _ in range(5000):
        node = call("sin", node)
    assert len(round_trip(Graph((x,), (node,))).nodes) == 5001


def test_names_are_those_in_the_text():
    x = vector()
    node = ops.reduce_sum(x * 2.0, (0,))
    graph = Graph((x,), (node,))
    names = names_of(graph)
    assert f"return {names[node]}\n" in to_text(graph)
    assert names[x] == "x0"


def test_avals_read_back():
    for aval in (aval_of((), "f4"), aval_of((2, 0, 3), "i8"), aval_of((5,), "?"), aval_of((1,), "u2")):
        assert read_aval(str(aval)) is aval


@pytest.mark.parametrize(
    "text, message",
    [
        ("def graph(x0:", "no Python"),
        ("x = 3", "one function"),
        ("def graph(x0):\n    return x0\n", "no type"),
        ('def graph(x0: "f64"):\n    return x0\n', "no type"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(UsageValueError, match=message):
        from_text(text)


def test_inputs_of_another_type_are_refused():
    text = to_text(Graph((x := vector(),), (full(1.0, x.aval) + x,)))
    with pytest.raises(UsageValueError, match="wants inputs"):
        from_text(text, [vector(4)])
