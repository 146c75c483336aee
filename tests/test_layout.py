"""Words and tables laid out for whole sweeps at once say what they would say block by block."""

from __future__ import annotations

import numpy as np
import pytest

import jitgrad
from jitgrad.backends.cpu.memory import binding_words
from jitgrad.backends.cpu.routines import routine_words
from jitgrad.lowering.plan import Slot
from jitgrad.lowering.steps import KernelStep
from tests.test_sweeps import PROGRAMS, cut_finely, plan_of


def layers(x, y):
    return np.sum(np.tanh(x @ y.T) ** 2)


def batches(x, y):
    return np.sum(np.tanh(x.reshape(-1, 4, 5) @ y.reshape(-1, 5, 4)))


def called(plan):
    """(words, is the first of a piece that may run at once with others) of every call, made one after another."""
    sweeps = {sweep.start: sweep for sweep in plan.sweeps}
    index = 0
    while index < len(plan.steps):
        sweep = sweeps.get(index)
        for block in range(sweep.blocks if sweep else 1):
            steps = list(sweep.steps(block)) if sweep else [plan.steps[index]]
            for number, step in enumerate(steps):
                slot = plan.private_slot if sweep else plan.arena_slot
                place = Slot(slot, max(0, plan.scratch[index + number]))
                if isinstance(step, KernelStep):
                    words = binding_words(step.binding, step.kernel, plan.buffers)
                else:
                    words = routine_words(step, plan.buffers, place)
                yield words, bool(sweep and sweep.blocks > 1 and number == 0)
        index = sweep.stop if sweep else index + 1


@pytest.mark.parametrize("program", [*PROGRAMS, layers, batches])
@pytest.mark.parametrize("block", [100, 20_000])
def test_words_are_those_of_each_block(program, block, monkeypatch):
    cut_finely(monkeypatch, block)
    for shape in ((37, 20), (130, 60)):
        function = jitgrad.jit(jitgrad.value_and_grad(program, argnums=(0, 1)), threads=1)
        function(*np.random.default_rng(0).normal(size=(2, *shape)))
        layout = function._dispatcher.last.runner.executable._layout
        expected = list(called(plan_of(function)))
        assert len(expected) == len(layout.table) == layout.pieces[-1]
        for (words, _), address in zip(expected, layout.table[:, 1], strict=True):
            start = (int(address) - layout.words.ctypes.data) // 8
            assert words == layout.words[start : start + len(words)].tolist()
        wide = [piece for first, end in layout.phases for piece in range(first, end) if end - first > 1]
        assert [k for k, (_, begins) in enumerate(expected) if begins] == layout.pieces[wide].tolist()
        assert layout.phases[0, 0] == 0 and layout.phases[-1, 1] == len(layout.pieces) - 1
        assert np.array_equal(layout.phases[1:, 0], layout.phases[:-1, 1])
