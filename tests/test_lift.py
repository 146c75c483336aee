"""Loops, branches and stores as people write them, traced, differentiated and compiled; what is refused, and how it is said."""

from __future__ import annotations

import copy
import linecache
import math
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from lift_programs import PROGRAMS

import jitgrad
from jitgrad import config, explain, grad, jit, show, value_and_grad, vjp
from jitgrad import tree as trees
from jitgrad.errors import Limitation, UsageError, UsageTypeError, UsageValueError

NAMED = [pytest.param(program, arguments, id=program.__name__) for program, arguments in PROGRAMS]


def plain(program, arguments):
    return program(*copy.deepcopy(arguments))


def moved(arguments, step: float):
    leaves, structure = trees.flatten(arguments[0])
    return trees.unflatten(structure, [leaf + step for leaf in leaves]), *arguments[1:]


@pytest.mark.parametrize(("program", "arguments"), NAMED)
def test_values_and_derivatives(program, arguments):
    before = copy.deepcopy(arguments)
    expected = plain(program, arguments)
    compiled = jit(value_and_grad(program))
    for function in (value_and_grad(program, tier="interpret"), compiled, compiled):
        value, gradient = function(*arguments)
        np.testing.assert_allclose(value, expected, rtol=1e-11)
        step = 1e-6
        slope = (plain(program, moved(arguments, step)) - plain(program, moved(arguments, -step))) / (2 * step)
        total = sum(np.sum(leaf) for leaf in trees.flatten(gradient)[0])
        np.testing.assert_allclose(total, slope, rtol=2e-5, atol=1e-6)
    for old, new in zip(trees.flatten(before)[0], trees.flatten(arguments)[0], strict=True):
        np.testing.assert_array_equal(old, new)  # the caller's arrays are what they were


SECOND = [entry for entry in NAMED if entry.id not in ("minors", "growing_list")][::3]


@pytest.mark.parametrize(("program", "arguments"), SECOND)
def test_second_derivatives(program, arguments):
    def slope(*given):
        return sum(np.sum(leaf) for leaf in trees.flatten(grad(program)(*given))[0])

    step = 1e-5
    expected = (slope(*moved(arguments, step)) - slope(*moved(arguments, -step))) / (2 * step)

    def inner(first):
        return sum(np.sum(leaf) for leaf in trees.flatten(grad(program)(first, *arguments[1:]))[0])

    found = jit(grad(inner))(arguments[0])
    total = sum(np.sum(leaf) for leaf in trees.flatten(found)[0])
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-4)


def text_of(program, *arguments) -> str:
    return str(show(program, *arguments, stage="traced"))


def test_graphs_do_not_grow_with_trip_counts():
    def f(x):
        total = 0.0
        for t in range(x.shape[0]):
            total = total * 0.5 + np.tanh(x[t])
        return total

    sizes = {len(text_of(grad(f), np.ones(n)).splitlines()) for n in (20, 2000, 200000)}
    assert len(sizes) == 1


def test_short_loops_and_loops_over_plain_values_stay_python():
    def f(x):
        total = 0.0
        for k in range(3):
            total += x * k
        weights = [1.0 / (k + 1) for k in range(50)]
        for weight in weights[:4]:
            total += weight * x
        return total

    assert "loop(" not in text_of(f, 2.0)


def test_a_branch_on_plain_values_stays_python():
    def f(x, mode):
        if mode == "square":
            return x * x
        return x

    assert "cond(" not in text_of(jit(f, static_argnums=1), 2.0, "square")
    assert jit(f)(3.0, "square") == 9.0 and jit(f)(3.0, "other") == 3.0


def test_impure_bodies_are_unrolled_and_run_once():
    seen = []

    def f(x):
        total = 0.0
        for k in range(12):
            seen.append(k)
            total = total + x * k
        return total

    assert jit(f)(2.0) == 132.0
    assert seen == list(range(12))


def test_nothing_is_done_twice_when_rolling_fails():
    calls = []

    def note(k):
        calls.append(k)
        return 1.0

    def f(x):
        total = 0.0
        for k in range(10):
            total = total + x * note(k)
        return total

    assert grad(f)(2.0) == 10.0
    assert calls == list(range(10))


def test_stores_into_arrays_that_functions_close_over():
    def f(x):
        y = np.zeros(12)

        def update(i):
            y[i] = x * i

        for i in range(12):
            update(i)
        return np.sum(y)

    assert jit(f)(2.0) == 132.0 and grad(f)(2.0) == 66.0

    def handed_over(x):
        y = np.zeros(12)
        y[0] = x

        def update(target, i):
            target[i] = x * i

        for i in range(12):
            update(y, i)
        return np.sum(y)

    assert "loop(" in text_of(handed_over, 2.0)
    assert jit(handed_over)(2.0) == 132.0


def test_lists_indexed_by_the_counter_are_unrolled():
    layers = [1.0 + k for k in range(12)]

    def f(x):
        for k in range(len(layers)):
            x = x * layers[k]
        return x

    assert grad(f)(1.0) == math.factorial(12)


def test_traced_bounds():
    def f(x, n):
        total = 0.0
        for k in range(1, n, 3):
            total += x**k
        return total

    g = jit(lambda x, n: f(x, n.astype(int)))
    for n in (0.0, 1.0, 2.0, 8.0, 20.0):
        np.testing.assert_allclose(g(0.9, n), f(0.9, int(n)))
    np.testing.assert_allclose(grad(lambda x, n: f(x, n.astype(int)))(0.9, 9.0), 1 + 4 * 0.9**3 + 7 * 0.9**6)


def test_the_untaken_side_costs_nothing_and_gives_no_nan():
    def f(x):
        if x > 0:
            return np.log(x)
        return x * x

    assert grad(f)(-2.0) == -4.0 and grad(f)(0.5) == 2.0

    def g(x):
        total = 0.0
        for i in range(len(x)):
            if x[i] > 0:
                total += np.sqrt(x[i])
        return total

    np.testing.assert_array_equal(jit(grad(g))(np.array([0.0, 4.0, -1.0] * 4)), [0.0, 0.25, 0.0] * 4)


def test_a_name_with_a_value_on_one_side_only():
    def unused(x):
        if x > 0:
            inner = x * 2
            y = inner
        else:
            y = -x
        return y

    assert grad(unused)(1.0) == 2.0

    def used(x):
        if x > 0:
            inner = x * 2
        return inner

    with pytest.raises(UsageValueError, match="'inner' has a value on one side of a branch only"):
        grad(used)(1.0)


def test_what_changes_its_shape_is_named():
    def f(x, n):
        y = x
        for _ in range(n):
            y = np.concatenate([y, y])
        return np.sum(y)

    with pytest.raises(UsageTypeError, match="'y' changes its shape from"):
        jit(lambda x, n: f(x, n.astype(int)))(np.ones(2), 3.0)


def test_returns_of_different_structure():
    def f(x):
        if x > 0:
            return x, x
        return x

    with pytest.raises(UsageTypeError, match="different structures or shapes"):
        jit(f)(1.0)

    def g(x):
        if x > 0:
            return x

    with pytest.raises(UsageTypeError, match="returns a value, on others nothing"):
        jit(g)(1.0)


def test_side_effects_under_traced_conditions():
    """The actual arguments decide where both sides cannot be traced; in a loop that has to be rolled nothing is known."""

    def f(x):
        found = [x]
        if x > 0:
            found.append(x * x)
        return sum(found)

    g = grad(f)
    assert (g(1.0), g(-1.0), g(2.0)) == (3.0, 1.0, 5.0)

    def rolled(x, n):
        found = []
        for k in range(n):
            found.append(x * k)
        return sum(found)

    with pytest.raises(Limitation, match="append of a list"):
        jit(lambda x, n: rolled(x, n.astype(int)))(1.0, 3.0)


def test_raise_and_assert():
    def f(x, limit):
        assert limit > 0, "limit must be positive"
        if limit > 10:
            raise ValueError("too much")
        return x * limit

    assert jit(f, static_argnums=1)(2.0, 3) == 6.0
    with pytest.raises(AssertionError, match="limit must be positive"):
        jit(f, static_argnums=1)(2.0, -1)
    with pytest.raises(ValueError, match="too much"):
        jit(f, static_argnums=1)(2.0, 11)


def failing(x):
    for _ in range(3):
        x = x + 1
    if x.ndim > 5:
        return x
    return x + np.ones(7)


def test_tracebacks_show_the_users_lines():
    with pytest.raises(UsageError) as caught:
        jit(failing)(np.ones(3))
    frames = [frame for frame in traceback.extract_tb(caught.value.__traceback__) if frame.filename == __file__]
    assert frames[-1].line == "return x + np.ones(7)"
    assert frames[-1].name == "failing"
    assert caught.value.where.source == "return x + np.ones(7)"


def test_functions_without_source_run_as_they_are():
    space: dict = {"np": np}
    exec("def f(x):\n    return np.sin(x) * 2\n", space)
    assert grad(space["f"])(0.0) == 2.0


def test_functions_of_notebooks():
    lines = ["def f(x):", "    total = 0.0", "    for i in range(20):", "        if x > i:", "            total += x"]
    source = "\n".join([*lines, "    return total", ""])
    name = "<ipython-input-7-abc>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space: dict = {}
    exec(compile(source, name, "exec"), space)
    assert jit(space["f"])(3.5) == 14.0


def test_lambdas_of_one_line_are_told_apart():
    first, second = (lambda x: x if x > 0 else -x), (lambda x: x * x if x > 0 else 0.0 * x)
    assert (grad(first)(-1.0), grad(second)(-1.0), grad(first)(2.0), grad(second)(2.0)) == (-1.0, 0.0, 1.0, 4.0)


def test_scopes():
    factor = 2.0

    def decorated(function):
        return lambda *args, **kwargs: function(*args, **kwargs) * factor

    @decorated
    def f(x, *rest, scale=1.0, **options):
        total = 0.0
        for k in range(10):
            if x > k:
                total += scale * x * options.get("more", 1.0)
            else:
                pass
        for r in rest:
            total += r
        return total

    assert jit(f)(3.5, 1.0, 2.0, scale=2.0, more=0.5) == (4 * 3.5 + 3.0) * 2

    def outer(x):
        count = 0.0

        def add(v):
            nonlocal count
            count = count + v
            return count

        for k in range(10):
            add(x * k)
        return count

    assert jit(outer)(1.0) == 45.0


def test_rebinding_of_what_lifted_functions_read_is_seen():
    state = {"k": 2.0}

    def helper(x):
        if x > 0:
            return x * state["k"]
        return x

    f = grad(lambda x: helper(x))
    assert f(1.0) == 2.0
    state["k"] = 5.0
    assert f(1.0) == 5.0


def test_calls_with_equal_values_are_answered_from_memory():
    runs = []

    def fibonacci(x, n):
        return x if n < 2 else fibonacci(x, n - 1) + fibonacci(x, n - 2)

    def counted(x):
        runs.append(1)
        return fibonacci(x, 60)

    assert jit(counted)(1.0) == 2504730781961.0


SETTINGS = {"k": 1.0}


def scaled(v):
    return v * SETTINGS["k"] if v > -100 else v


def test_calls_are_not_answered_from_memory_when_what_they_close_over_has_changed():
    def rebound(x):
        k = 2.0

        def g(v):
            return v * k if v > -100 else v

        first = g(x)
        k = 5.0
        return first + g(x)

    assert jit(rebound)(1.0) == 7.0

    def grown(x):
        parts = [x]

        def total(v):
            return sum(parts) * v if v > -100 else v

        first = total(x)
        parts.append(x * 2)
        return first + total(x)

    assert jit(grown)(3.0) == 9.0 + 27.0

    def stored(x):
        y = np.zeros(2)

        def g(v):
            return y[0] + v if v > -100 else v

        first = g(x)
        y[0] = x
        return first + g(x)

    assert jit(stored)(3.0) == 3.0 + 6.0

    def of_the_module(x):
        SETTINGS["k"] = 2.0
        first = scaled(x)
        SETTINGS["k"] = 5.0
        return first + scaled(x)

    assert jit(of_the_module)(1.0) == 7.0


def test_lifting_can_be_turned_off():
    def f(x):
        total = 0.0
        for k in range(20):
            total += x * k
        return total

    with config(lift=False):
        assert "loop(" not in text_of(f, 1.0)
    assert "loop(" in text_of(f, 1.0)


def test_pullbacks_of_loops():
    def f(x, y):
        for i in range(30):
            x = np.sin(x) + y * i
        return x, y * x

    output, pull = vjp(f, 0.3, 0.2)
    first, second = pull((1.0, 0.0)), pull((0.0, 1.0))
    assert np.allclose(output, f(0.3, 0.2))
    for cotangent, found in (((1.0, 0.0), first), ((0.0, 1.0), second)):
        expected = grad(lambda x, y: np.sum(np.array(cotangent) * np.stack(f(x, y))), argnums=(0, 1))(0.3, 0.2)  # noqa: B023
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_dtypes_are_kept(dtype):
    def f(x):
        y = np.zeros_like(x)
        total = x[0] * 0
        for i in range(len(x)):
            y[i] = x[i] * 0.5 if x[i] > 0 else 1
            total += y[i]
        return total

    value, gradient = value_and_grad(f)(np.linspace(-1, 1, 20).astype(dtype))
    assert value.dtype == gradient.dtype == np.dtype(dtype)


def test_explicit_forms_outside_of_a_trace():
    assert jitgrad.fori_loop(0, 5, lambda i, v: v + i, 0) == 10
    assert jitgrad.while_loop(lambda v: v < 10, lambda v: v * 2, 1) == 16
    assert jitgrad.cond(True, lambda x: x, lambda x: -x, 3) == 3
    carry, found = jitgrad.scan(lambda c, x: (c + x, c * x), 1.0, np.arange(3.0), reverse=True)
    assert carry == 4.0 and found.tolist() == [0.0, 3.0, 2.0]


@pytest.mark.parametrize("reverse", [False, True])
def test_scans(reverse):
    x = np.random.default_rng(1).normal(size=(20, 3))

    def f(x):
        def step(carry, row):
            a, b = carry
            return (a * 0.5 + row, b + np.sum(row)), {"both": a * b, "sum": b}

        return jitgrad.scan(step, (x[0] * 0, 0.0), x, reverse=reverse)

    expected = f(x)
    found = jit(f)(x)
    for one, other in zip(trees.flatten(expected)[0], trees.flatten(found)[0], strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-12)
    added = jit(lambda x: jitgrad.associative_scan(np.add, x, reverse=reverse, axis=1))(x)
    expected = np.flip(np.cumsum(np.flip(x, 1), 1), 1) if reverse else np.cumsum(x, 1)
    np.testing.assert_allclose(added, expected, rtol=1e-12)


def test_the_examples_run(capsys):
    import importlib.util

    path = Path(__file__).resolve().parents[1] / "examples" / "loops.py"
    specification = importlib.util.spec_from_file_location("loops_example", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.main()
    printed = capsys.readouterr().out
    assert "[0.109 0.16  0.729]" in printed and "cells on the shortest path: 23" in printed
    _, miss = module.steer()
    assert miss < 1e-10


STOPPED = """
import os, signal, threading, time
import numpy as np
from jitgrad import grad, jit

def f(x, n):
    total = x
    for i in range(n):
        total = np.sin(total) * 0.9 + x * i
    return total

for function in (jit(lambda x, n: f(x, n.astype(int))), jit(lambda x, n: grad(f)(x, n.astype(int)))):
    first = float(function(0.5, 5.0)), float(function(0.5, 6.0))
    for _ in range(2):
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            function(0.5, 1e8 if "grad" in str(function) else 1e11)
        except KeyboardInterrupt:
            print("stopped")
        timer.join()
    assert (float(function(0.5, 5.0)), float(function(0.5, 6.0))) == first
"""


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_stops_a_native_loop(tmp_path):
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["stopped"] * 4


def test_explain_tells_what_loops_save():
    def f(x):
        total = 0.0
        for t in range(len(x)):
            total = np.tanh(total + x[t])
        return total

    text = str(explain(jit(grad(f)), np.ones(1000)))
    assert "saved by loops for their derivatives: 8,000 bytes" in text
    assert "outputs, arena and what loops save" in text
    assert "jg.control" in str(show(grad(f), np.ones(1000), stage="llvm"))

    def until(x):
        while x < 100.0:
            x = x * x
        return x

    assert "8 bytes a step of loops whose number of steps is found out at run time" in str(explain(jit(grad(until)), 2.0))
