"""show, explain, and what the options show, dump, time, skip and fuel do to a compilation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import jitgrad
from jitgrad import ops
from jitgrad.config import config
from jitgrad.errors import Limitation, UsageTypeError, UsageValueError
from jitgrad.inspection import explain, show
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph
from jitgrad.ir.node import fresh_input, interning
from jitgrad.ir.text import from_text
from jitgrad.passes.pipeline import pass_names
from jitgrad.runtime.compile import compile_graph
from jitgrad.stages import STAGES

RNG = np.random.default_rng(0)
X, Y, W = RNG.normal(size=5), RNG.normal(size=5), RNG.normal(size=(5, 7))
LABELS, TABLE = np.array([0, 3, 3, -1, 1]), RNG.normal(size=(6, 3))


def smooth(x, y):
    return np.sum(np.sin(x) * y)


def cross_entropy(w, y):
    z = w - np.max(w, axis=1, keepdims=True)
    p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
    return -np.sum(np.log(np.sum(p, axis=1)) * y)


def linear_model(x, w):
    return np.mean((w.T @ x - 1.0) ** 2)


def embedding(table):
    return np.sum(table[LABELS] ** 2)


def views(w):
    return np.sum(np.tanh(w).T[::-2, 1:] * 3.0)


def joined(x, y):
    return np.sum(np.concatenate([x, y * 2.0, x]) ** 3)


GRADIENTS = {
    "smooth": (smooth, (X, Y)),
    "cross_entropy": (cross_entropy, (W, Y)),
    "linear_model": (linear_model, (X, W)),
    "embedding": (embedding, (TABLE,)),
    "views": (views, (W,)),
    "joined": (joined, (X, Y)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_printed_stages(name, golden):
    function, arguments = GRADIENTS[name]
    gradient = jitgrad.value_and_grad(function)
    texts = [
        f"--- {stage}\n{show(gradient, *arguments, stage=stage)}"
        for stage in ("traced", "optimized", "fused", "kernels", "plan")
    ]
    golden(name, "\n".join(texts))


# --- show


@pytest.mark.parametrize("stage", [*STAGES, *(f"pass:{name}" for name in pass_names())])
def test_every_stage_says_something(stage):
    text = show(jitgrad.grad(smooth), X, Y, stage=stage)
    assert isinstance(text, str) and text.strip()
    assert repr(text) == str(text)


def test_all_stages_in_order():
    text = show(jitgrad.grad(smooth), X, Y, stage="all")
    headings = [line[4:] for line in text.splitlines() if line.startswith("--- ")]
    assert headings == ["traced", *(f"pass:{name}" for name in pass_names()), *STAGES[1:]]


def test_machine_code_is_machine_code():
    assert "define i64 @" in show(smooth, X, Y, stage="llvm")
    assert "ret" in show(smooth, X, Y, stage="asm")


def test_graphs_run():
    text = show(jitgrad.value_and_grad(smooth), X, Y, stage="optimized")
    with interning():
        run = compile_graph(from_text(text))
    value, gradient = run(X, Y)
    np.testing.assert_allclose(value, np.sum(np.sin(X) * Y), rtol=1e-14)
    np.testing.assert_allclose(gradient, np.cos(X) * Y, rtol=1e-14)


def test_functions_of_every_kind():
    plain = show(smooth, X, Y)
    assert "cos" not in plain and "sin" in plain
    assert show(jitgrad.jit(smooth), X, Y) == plain
    assert "cos" in show(jitgrad.grad(smooth), X, Y)
    assert show(jitgrad.grad(smooth), X, y=Y) == show(jitgrad.grad(smooth), X, Y)


def test_blame_is_the_users_line():
    first = smooth.__code__.co_firstlineno
    assert f"test_inspection.py:{first + 1}" in show(smooth, X, Y, stage="traced")


def test_what_a_pass_changes():
    def f(x):
        return np.sum(x * 1.0 - 0.0)

    changes = show(f, X, changed_by="simplify")
    assert any(line.startswith("-") and "multiply" in line for line in changes.splitlines())
    assert show(f, X, changed_by="expand_products") == "expand_products changes nothing"


def test_the_numpy_target_has_the_traced_graph():
    assert show(smooth, X, Y, target="numpy", stage="traced") == show(smooth, X, Y, stage="traced")
    assert "--- traced" in show(smooth, X, Y, target="numpy", stage="all")
    with pytest.raises(UsageValueError, match="no stage 'asm'"):
        show(smooth, X, Y, target="numpy", stage="asm")


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"stage": "assembler"}, UsageValueError, "traced, optimized, fused, kernels, plan, llvm, asm, all, pass:prune"),
        ({"stage": "pass:nothing"}, UsageValueError, "no stage 'pass:nothing'"),
        ({"changed_by": "nothing"}, UsageValueError, "simplify, join_places"),
        ({"target": "tpu"}, UsageValueError, "cpu, numpy"),
        ({"target": "cuda"}, Limitation, "CUDA"),
    ],
)
def test_what_there_is_not(options, error, message):
    with pytest.raises(error, match=message) as caught:
        show(smooth, X, Y, **options)
    assert len(str(caught.value).splitlines()) < 8


def test_a_result_in_place_of_a_function():
    with pytest.raises(UsageTypeError, match="a function is wanted"):
        show(smooth(X, Y), X, Y)
    with pytest.raises(UsageTypeError, match="a function is wanted"):
        explain(3.0)


def test_skipped_passes_have_no_stage():
    with config(skip=("simplify",)), pytest.raises(UsageValueError, match="skipped"):
        show(smooth, X, Y, stage="pass:simplify")


def test_nothing_to_compute():
    assert show(lambda x: x, X, stage="traced").splitlines()[-1].strip() == "return x0"
    assert "kernel0" in show(lambda x: x, X, stage="kernels")  # a copy: results share no memory with arguments


# --- explain


def fresh(function):
    """A function of its own, with nothing known about its calls."""
    return jitgrad.grad(lambda *args: function(*args))


def first_lines(text: str) -> tuple[str, str]:
    return tuple(text.splitlines()[:2])


def test_the_first_call_and_those_after_it():
    g = fresh(smooth)
    reason, tier = first_lines(explain(g, X, Y))
    assert "first call" in reason and "interpreted at the first call" in tier
    g(X, Y)
    reason, tier = first_lines(explain(g, X, Y))
    assert "traced before" in reason and "compiled from now on" in tier
    g(X, Y)
    assert first_lines(explain(g, X, Y))[1] == "tier: compiled"


def test_what_is_new_about_a_call():
    g = jitgrad.grad(lambda x, y: np.sum(x * y))
    g(X, Y)
    assert "x is float32[5], was float64[5]" in explain(g, X.astype("f4"), Y)
    assert "y is float64[4], was float64[5]" in explain(g, X[:4], Y[:4])
    assert "with strides" in explain(g, X, np.repeat(Y, 2)[::2])
    with config(skip=("tidy",)):
        assert "options have changed" in explain(g, X, Y)


def test_another_structure_of_arguments():
    g = jitgrad.grad(lambda xs: np.sum(xs[0]))
    g((X,))
    assert "built differently" in explain(g, [X])


def test_what_is_read_from_outside():
    scale = 2.0
    g = jitgrad.grad(lambda x: np.sum(x * scale * W[:, 0]))
    text = explain(g, X)
    assert "read from outside at each call: f64[5]" in text
    g(X)
    scale = 3.0
    assert "has changed" in explain(g, X)


def test_tiers():
    assert first_lines(explain(jitgrad.grad(smooth, tier="interpret"), X, Y))[1] == "tier: interpreted by NumPy, always"
    assert first_lines(explain(jitgrad.grad(smooth, tier="compile"), X, Y))[1] == "tier: compiled at the first call"
    large = np.zeros(2_000_000)
    assert "more than" in explain(fresh(smooth), large, large)


def test_work_is_counted():
    text = explain(lambda x: np.sum(x + x), np.zeros(100))
    assert "kernel0 over (100)" in text
    assert "in all: 200 flops, 800 bytes read, 8 bytes written" in text
    assert "arena for intermediates: 0 bytes" in text


def test_peak_memory_is_what_a_call_allocates():
    def f(x):
        z = np.exp(x - np.max(x, axis=1, keepdims=True))
        return np.sum(z * np.cumsum(z, axis=1) / np.sum(z, axis=1, keepdims=True)), np.sin(x)

    x = RNG.normal(size=(400, 300))
    text = explain(f, x)
    (line,) = [line for line in text.splitlines() if line.startswith("peak memory of a call")]
    told, given = (int(word.replace(",", "")) for word in line.split() if word.replace(",", "").isdigit())
    assert given == x.nbytes and told > x.nbytes
    program, arrays = jitgrad.inspection._program(f, (x,), {})
    executable = compile_graph(program.runner.graph)
    assert executable.plan.arena_bytes > x.nbytes  # or this tests nothing
    executable(*arrays)
    executable._arenas.clear()  # the arena that is kept counts for the call that took it
    tracemalloc.start()  # NumPy tells it of every array
    try:
        executable(*arrays)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak == pytest.approx(told, abs=8_000)  # Python's own objects


def test_what_is_saved_and_what_is_computed_again():
    x = np.ones((50, 20))
    text = explain(lambda x: x * 2.0 - (x * 2.0).sum(axis=1, keepdims=True), x)
    assert "saved between steps: 1 values, 400 bytes; computed again where they are read: 1" in text
    text = explain(lambda x: np.exp(x) - np.exp(x).sum(axis=1, keepdims=True), x)
    assert "saved between steps: 2 values, 8,400 bytes; computed again where they are read: 0" in text


def test_products_and_host_routines_are_named():
    text = explain(lambda a: np.sum(np.argsort(a @ a, axis=0) * 1.0), np.ones((16, 16)))
    assert "routine matmul -> f64[16,16]" in text and "8,192 flops" in text
    (argsort,) = [line for line in text.splitlines() if "argsort" in line]
    assert argsort.endswith("on the host, by NumPy")


def test_nothing_is_run():
    calls = []

    def f(x):
        calls.append(x)
        return np.sum(x)

    g = jitgrad.jit(f)
    explain(g, X)
    assert len(calls) == 1 and not isinstance(calls[0], np.ndarray)  # traced, not run


# --- the options, at compile time


def a_graph(value: float) -> Graph:
    x = fresh_input(aval_of((5,), "f8"))
    return Graph((x,), (ops.reduce_sum(x * 1.0 * value + value, (0,)),))


def test_show_prints_stages(capsys):
    with interning(), config(show=("traced", "pass:simplify", "kernels")):
        compile_graph(a_graph(2.5))
    printed = capsys.readouterr().err
    headings = [line for line in printed.splitlines() if line.startswith("--- ")]
    assert headings == ["--- traced", "--- pass:simplify", "--- kernels"]


def test_show_refuses_unknown_stages():
    with interning(), config(show=("everything",)), pytest.raises(UsageValueError, match="no stage 'everything'"):
        compile_graph(a_graph(2.5))


def test_time_prints_seconds(capsys):
    with interning(), config(time=True):
        compile_graph(a_graph(2.5))
    printed = capsys.readouterr().err
    assert "jitgrad: pass:simplify" in printed and "jitgrad: plan" in printed and " ms" in printed


def test_dump_writes_every_stage(tmp_path):
    folder = tmp_path / "dumps"
    x = fresh_input(aval_of((5,), "f8"))
    with interning(), config(dump=folder):
        compile_graph(Graph((x,), (ops.reduce_sum(ops.integer_power(x, 11) / 3.25, (0,)),)))
    stages = [file.stem.split("-", 3)[3] for file in sorted(folder.iterdir())]
    assert stages[:5] == ["traced", "pass-prune", "pass-hoist", "pass-bodies", "pass-simplify"]
    assert {"optimized", "fused", "kernels", "plan", "llvm", "asm"} <= set(stages)
    assert all(file.read_text().strip() for file in folder.iterdir())


def test_skip_and_fuel_reach_the_compiler():
    with interning():
        graph = a_graph(2.5)
        for options in ({"skip": pass_names()}, {"fuel": 0}, {"fuel": 1}, {}):
            with config(**options):
                np.testing.assert_allclose(compile_graph(graph)(X)[0], np.sum(X * 2.5 + 2.5), rtol=1e-14)


def test_nothing_is_printed_unasked(capsys):
    with interning():
        compile_graph(a_graph(2.5))
    assert capsys.readouterr() == ("", "")
