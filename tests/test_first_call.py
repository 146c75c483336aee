"""What makes first calls cheap, and must not make them wrong: reads from bytecode, lines found once, kept graphs."""

import argparse
import contextlib
import dis
import gc
import json.decoder
import types
import typing
import weakref

import numpy as np
import pytest

from jitgrad import UsageTypeError, grad, jit, show, vjp
from jitgrad.frontend import reads

FACTOR = 2.0


def codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


@pytest.mark.parametrize("module", [argparse, json.decoder, typing, dis], ids=lambda module: module.__name__)
def test_instructions_are_those_that_dis_finds(module):
    with open(module.__file__, encoding="utf8") as file:
        whole = compile(file.read(), module.__file__, "exec")
    for code in codes(whole):
        expected = [one for one in dis.get_instructions(code) if one.opname != "EXTENDED_ARG"]
        found = reads.instructions_of(code)
        assert len(found) == len(expected)
        for (operation, name), one in zip(found, expected, strict=True):
            subscription = one.opname == "BINARY_OP" and one.argrepr == "[]"  # Python 3.14
            assert operation == (reads.SUBSCRIPTION if subscription else one.opcode)
            if name is not None or one.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_ATTR", "LOAD_METHOD"):
                assert name == one.argval


@pytest.mark.parametrize("function", [lambda x: np.sum(np.sin(x) * x[::-1]), lambda x: np.sum(x**3 / (x + 2.0))])
def test_the_collector_has_nothing_to_do_with_graphs(function):
    """Kept graphs are not gone through, and go without a collection when nobody refers to them any more."""
    gradient = grad(function)
    gradient(np.ones(3))
    nodes = gradient._dispatcher.last.runner.graph.nodes
    assert len(nodes) > 4
    assert not any(gc.is_tracked(node) or (node.operands and gc.is_tracked(node.operands)) for node in nodes)
    watched = [weakref.ref(node) for node in nodes]
    gc.disable()
    try:
        del nodes, gradient
        function.__dict__.clear()  # where its programs are
        assert not any(reference() for reference in watched)
    finally:
        gc.enable()


def test_the_compiled_second_call_goes_on_with_the_kept_nodes():
    """A graph is compiled in a scope of its own: what was one node stays one."""
    f = grad(lambda x: np.sum(np.exp(x) * np.exp(x) + np.where(x > 0.0, x, -x)))
    x = np.array([-1.0, 0.5])
    np.testing.assert_allclose(f(x), f(x), rtol=1e-15)
    assert show(f, x, stage="optimized").count("exp(") == 1


def several_lines(x):
    y = x + FACTOR
    z = np.sum(
        y
        * x[:1]
    )
    return z * 3.0


def test_each_node_has_the_line_of_the_users_code_that_made_it():
    first = several_lines.__code__.co_firstlineno
    text = show(jit(several_lines), np.ones(2), stage="traced")
    lines = {row.split(" = ")[1].split("(")[0]: int(row.rsplit(":", 1)[1]) - first for row in text.splitlines() if "#" in row}
    # numbers that occur once belong to their operation's line
    assert lines["add"] == 1 and lines["slice"] == 4 and lines["reduce_sum"] == 2


def test_lines_are_found_again_after_an_error_inside_an_operation():
    def f(x):
        with contextlib.suppress(UsageTypeError):
            x + "text"
        return x * 2.0

    row = next(row for row in show(jit(f), np.ones(2), stage="traced").splitlines() if "multiply" in row)
    assert int(row.rsplit(":", 1)[1]) == f.__code__.co_firstlineno + 3


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.sum(np.piecewise(x, [x > 0], [lambda v: v * FACTOR, 0.0])),
        lambda x: np.sum(np.apply_along_axis(lambda v: v * FACTOR, 0, x)),
        lambda x: np.sum(np.apply_over_axes(lambda v, axis: np.sum(v * FACTOR, axis, keepdims=True), x, [0])),
    ],
)
def test_what_functions_read_that_numpy_calls_back_is_watched(function, monkeypatch):
    f = grad(function)
    for factor in (2.0, 5.0, 2.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        np.testing.assert_array_equal(f(np.ones(2)), [factor, factor])


def test_defaults_keywords_and_starred_arguments_are_checked_as_python_does():
    f = grad(lambda x, y=2.0: x * y)
    assert (f(3.0), f(3.0, 4.0), f(3.0, y=5.0)) == (2, 4, 5)
    for wrong in (lambda: f(), lambda: f(1.0, 2.0, 3.0), lambda: f(1.0, z=2.0)):
        with pytest.raises(UsageTypeError, match="cannot be called like this"):
            wrong()

    def only_by_name(x, *, k):
        return x * k

    assert grad(only_by_name)(1.0, k=3.0) == 3
    with pytest.raises(UsageTypeError, match="cannot be called like this"):
        grad(only_by_name)(1.0)
    assert grad(lambda *xs: xs[0] * xs[1])(2.0, 7.0) == 7


def test_a_pullback_names_the_cotangent_that_does_not_fit():
    _, pull_back = vjp(lambda x: {"a": x, "b": 2 * x}, np.ones(2))
    with pytest.raises(ValueError, match=r"cotangents\['b'\] has shape \(3,\)"):
        pull_back({"a": np.ones(2), "b": np.ones(3)})
