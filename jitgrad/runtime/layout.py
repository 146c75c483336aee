"""A plan as the driver reads it: words, a table of calls, and which calls may be done at once.

Each step's function reads words (see `binding_words`); a call is a function and the place of its words. The calls are cut
into pieces: one for the calls between sweeps, one for each block of a sweep. The pieces of a phase do not depend on each
other (`backends/cpu/pool.py`). The words of the blocks of a sweep differ by the same amounts from one block to the next,
but for the last block, which may be shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.cpu.control import ControlCode, Word
from ..backends.cpu.memory import binding_words, number_word
from ..backends.cpu.routines import host_function, native_symbol, routine_words
from ..errors import InternalError
from ..lowering.plan import Plan, Slot
from ..lowering.region import FRAME, RESULT, ControlStep, Segment, Step
from ..lowering.steps import KernelStep, RoutineStep
from ..lowering.sweeps import Sweep
from .machine import address_of


@dataclass(frozen=True)
class Layout:
    """`words`, and `table`, a row (function, address of its words) for each call.

    `pieces` are the first calls of each piece, and the end; `phases` the rows (first piece, end). `keep` must outlive it.
    """

    words: np.ndarray
    table: np.ndarray
    pieces: np.ndarray
    phases: np.ndarray
    keep: tuple

    @property
    def widest(self) -> int:
        """The most pieces that may be done at once."""
        return int((self.phases[:, 1] - self.phases[:, 0]).max(initial=1))


@dataclass(frozen=True)
class _Part:
    """Steps that are called one after another, `blocks` times: the addresses of their functions; for every block, their
    words; where in them each step's begin."""

    functions: list[int]
    words: np.ndarray
    starts: list[int]

    @property
    def blocks(self) -> int:
        return len(self.words)


class _Maker:
    """Makes functions and words of the steps of a plan."""

    def __init__(self, plan: Plan, addresses: Mapping[Any, int], controls: Mapping, report: Callable[[BaseException], None]):
        self.plan, self.addresses, self.controls, self.report = plan, addresses, controls, report
        self.keep: list = []

    def parts(self) -> Iterator[_Part]:
        sweeps = {sweep.start: sweep for sweep in self.plan.sweeps}
        index = 0
        while index < len(self.plan.steps):
            sweep = sweeps.get(index)
            if sweep is None:
                place = Slot(self.plan.arena_slot, max(0, self.plan.scratch[index]))
                yield self._part([self.plan.steps[index]], [place])
                index += 1
            else:
                yield from self._sweep(sweep)
                index = sweep.stop

    def _sweep(self, sweep: Sweep) -> Iterator[_Part]:
        places = [Slot(self.plan.private_slot, max(0, k)) for k in self.plan.scratch[sweep.start : sweep.stop]]
        first = list(sweep.steps(0))
        if any(_is_on_host(step) for step in first):  # Python is not for the pool's threads
            for block in range(sweep.blocks):
                yield self._part(list(sweep.steps(block)), places)
            return
        part = self._part(first, places)
        if sweep.blocks > 1:
            second, last = (self._part(list(sweep.steps(k)), places) for k in (1, sweep.blocks - 1))
            words = part.words + np.arange(sweep.blocks)[:, None] * (second.words - part.words)
            words[-1] = last.words
            part = _Part(part.functions, words, part.starts)
        yield part

    def _part(self, steps: Sequence[Step], places: Sequence[Slot]) -> _Part:
        functions: list[int] = []
        starts: list[int] = []
        words: list[int] = []
        for step, place in zip(steps, places, strict=True):
            starts.append(len(words))
            if isinstance(step, ControlStep):
                words += self._control_words(step, place)
                functions.append(self.addresses[step])
            elif isinstance(step, KernelStep):
                words += binding_words(step.binding, step.kernel, self.plan.buffers)
                functions.append(self.addresses[step.kernel])
            elif (symbol := native_symbol(step)) is not None:
                words += routine_words(step, self.plan.buffers, place)
                functions.append(self.addresses[symbol])
            else:
                function = host_function(step, self.plan.buffers, self.report)
                self.keep.append(function)
                functions.append(address_of(function))
        return _Part(functions, np.array([words], np.int64), starts)

    def _control_words(self, step: ControlStep, frame: Slot) -> list[int]:
        """The words of a loop or branch."""
        results = dict(step.results)

        def place(kind: str, number: int) -> Slot:
            if kind == FRAME:
                return frame
            if kind == RESULT:
                return self.plan.buffers[results[number]]
            access = step.operands[number]
            assert access is not None
            found = self.plan.buffers[access.base]
            return Slot(found.slot, found.offset + access.offset * access.base.dtype.itemsize)

        def value(word: Word) -> int:
            match word.kind:
                case "integer":
                    return word.value
                case "number":
                    return number_word(word.value)
                case "slot":
                    return place(*word.value).slot
                case "offset":
                    return place(*word.value).offset
                case "arena":
                    return self.plan.arena_slot
                case "function":
                    return self._function(*word.value)
            raise InternalError(f"a word of kind {word.kind}")

        return [value(word) for word in self.controls[step].words]

    def _function(self, segment: Segment, step: KernelStep | RoutineStep) -> int:
        """The address of a kernel or routine that a loop calls."""
        if isinstance(step, KernelStep):
            return self.addresses[step.kernel]
        symbol = native_symbol(step)
        if symbol is not None:
            return self.addresses[symbol]
        function = host_function(step, segment.buffers, self.report)
        self.keep.append(function)
        return address_of(function)


def _is_on_host(step: Step) -> bool:
    return isinstance(step, RoutineStep) and native_symbol(step) is None


def lay_out(
    plan: Plan,
    addresses: Mapping[Any, int],
    controls: Mapping[ControlStep, ControlCode],
    report: Callable[[BaseException], None],
) -> Layout:
    """The plan laid out; `addresses` of kernels, named routines, loops and branches, whose code `controls` has; `report`
    gets errors of steps on the host."""
    maker = _Maker(plan, addresses, controls, report)
    parts = list(maker.parts())
    words = np.concatenate([np.zeros(1, np.int64), *(part.words.ravel() for part in parts)])
    rows: list[np.ndarray] = []
    pieces, phases = [0], list[tuple[int, int]]()
    at = words.ctypes.data + words.itemsize
    for part in parts:
        starts = np.arange(part.blocks)[:, None] * part.words.shape[1] + np.array(part.starts)
        functions = np.broadcast_to(part.functions, starts.shape)
        rows.append(np.stack([functions.ravel(), at + words.itemsize * starts.ravel()], axis=1))
        at += part.words.nbytes
        length = len(part.functions)
        if part.blocks == 1 and phases and phases[-1][1] - phases[-1][0] == 1:
            pieces[-1] += length
            continue
        phases.append((len(pieces) - 1, len(pieces) - 1 + part.blocks))
        pieces += [pieces[-1] + length * (k + 1) for k in range(part.blocks)]
    table = np.concatenate([np.empty((0, 2), np.int64), *rows])
    return Layout(
        words, table, np.array(pieces, np.int64), np.array(phases, np.int64).reshape(-1, 2), tuple(maker.keep)
    )
