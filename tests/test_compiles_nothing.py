"""What may change from call to call without a line of LLVM: numbers, sizes, and which function object it is."""

from __future__ import annotations

import numpy as np
import pytest

import jitgrad
from jitgrad.runtime import machine


@pytest.fixture
def compiles(monkeypatch):
    """The modules that LLVM is given, as they come; none is spared it by a file on the disk."""
    seen: list[str] = []
    compile_text = machine.compile_text

    def counted(text, *args, **kwargs):
        seen.append(text)
        return compile_text(text, *args, **kwargs)

    monkeypatch.setattr(machine, "compile_text", counted)
    with jitgrad.config(cache_dir="off"):
        yield seen


def loss(w, x, y):
    return np.mean((np.tanh(x * w) - y) ** 2)


def test_a_learning_rate_that_changes_at_every_call(compiles):
    rng = np.random.default_rng(0)
    w, x, y = rng.normal(size=(3, 40))
    rate = 1.0

    def captured(w, x, y):
        return w - rate * jitgrad.grad(loss)(w, x, y)

    def passed(w, x, y, rate):
        return w - rate * jitgrad.grad(loss)(w, x, y)

    by_capture, by_argument = jitgrad.jit(captured), jitgrad.jit(passed)
    slope = jitgrad.grad(loss, tier="interpret")(w, x, y)
    for step in range(12):
        rate = 0.3 / (step + 1)
        if step == 1:
            compiles.clear()
        np.testing.assert_allclose(by_capture(w, x, y), w - rate * slope, rtol=1e-13)
        np.testing.assert_allclose(by_argument(w, x, y, rate), w - rate * slope, rtol=1e-13)
    assert compiles == []


def test_new_sizes_and_new_functions_of_one_structure(compiles):
    for count, n in enumerate((50, 51, 1000, 77)):
        w, x, y = np.random.default_rng(n).normal(size=(3, n))
        scale = 1.5 + n
        fresh = jitgrad.jit(jitgrad.grad(lambda w, x, y, scale=scale: scale * loss(w, x, y)))
        expected = scale * jitgrad.grad(loss, tier="interpret")(w, x, y)
        # tanh(x w) - y cancels: what is left of it is right relative to its terms
        np.testing.assert_allclose(fresh(w, x, y), expected, rtol=1e-13, atol=1e-14 * np.max(np.abs(expected)))
        if count == 0:
            compiles.clear()
    assert compiles == []
