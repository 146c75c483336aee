"""From a Python function to a graph: the function runs once on traced arrays, and what it read is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .. import tree
from ..errors import UsageError
from ..ir.aval import Aval
from ..ir.body import up_to_date
from ..ir.collector import forget
from ..ir.graph import Graph, substitute
from ..ir.node import INPUT, Node, fresh_input, full
from .array import Array
from .calls import listening
from .captures import Watcher
from .decisions import Decision, all_hold
from .guards import Guards
from .trace import Captured, Trace, capture, check_alive, refuse_foreign, tracing

EXACT_LIMIT = 1 << 15
"""Up to this many bytes in all, the smallest first, watched arrays are compared element by element whenever the function
takes branches."""


class Argument(NamedTuple):
    """A leaf of the arguments that the graph has an input for; `weak` is float for a Python float."""

    aval: Aval
    weak: type | None


@dataclass(frozen=True)
class Output:
    """How the graph's outputs become what the function returned.

    `places[k]` says which output leaf k is; a leaf that was no array is in `values[k]`, its place is None.
    """

    structure: Any
    places: tuple[int | None, ...]
    values: tuple

    def build(self, arrays: Sequence) -> Any:
        """The function's result, `arrays` being its traced leaves."""
        if self.in_order:
            return tree.unflatten(self.structure, arrays)
        leaves = [
            value if place is None else arrays[place] for place, value in zip(self.places, self.values, strict=True)
        ]
        for k in self.repeated:
            leaves[k] = leaves[k].copy()
        return tree.unflatten(self.structure, leaves)

    @cached_property
    def in_order(self) -> bool:
        """Whether the leaves are the outputs, one by one."""
        return self.places == tuple(range(len(self.places)))

    @cached_property
    def repeated(self) -> tuple[int, ...]:
        """The leaves that are an output which an earlier leaf is, too: each gets memory of its own."""
        return tuple(k for k, place in enumerate(self.places) if place is not None and place in self.places[:k])


@dataclass(frozen=True)
class Traced:
    """A function's graph: inputs are the arguments that are arrays, then the captured arrays of `guards`.

    `repeatable` is False for a function that changes what it reads: its next call may compute something else.
    `decisions`: what the actual arguments decided (see `decisions`); then the last output says whether it still holds.
    """

    graph: Graph
    guards: Guards
    output: Output
    repeatable: bool
    decisions: tuple[Decision, ...] = ()


def trace_function(
    body: Callable, roots: Iterable, leaves: Sequence, structure, arrays: Sequence[np.ndarray] | None = None
) -> Traced:
    """The graph of `body(*args, **kwargs)`, where `leaves` and `structure` are those of (args, kwargs).

    Leaves that are an `Argument` become traced arrays, others are passed as they are. `roots` are looked into for what
    the function closes over. `arrays` are the actual values of the `Argument`s, which decide where Python asks.
    """
    with tracing() as trace:
        watcher = Watcher(trace)
        watcher.look_into(*roots)
        inputs = [fresh_input(leaf.aval) if isinstance(leaf, Argument) else None for leaf in leaves]
        arguments = [node for node in inputs if node is not None]
        trace.values.update(zip(arguments, arrays or (), strict=False))
        result = _run(body, watcher, inputs, leaves, structure)
        outputs, output = _read_result(result)
        del result
        outputs = up_to_date(outputs)
        check_alive(outputs)
        holds = all_hold(trace)
        return _finish(trace, watcher, arguments, outputs if holds is None else [*outputs, holds], output)


def _run(body: Callable, watcher: Watcher, inputs: Sequence, leaves: Sequence, structure):
    traced = [
        leaf if node is None else Array(node, leaf.weak) for node, leaf in zip(inputs, leaves, strict=True)
    ]
    args, kwargs = tree.unflatten(structure, traced)
    with listening(watcher.function_starts):
        try:
            return body(*args, **kwargs)
        except ValueError as error:  # NumPy says "setting an array element with a sequence" for our refusal
            if isinstance(error.__cause__, UsageError):
                raise error.__cause__ from None
            raise


def _read_result(result) -> tuple[list[Node], Output]:
    """The traced leaves of what the function returned, and how to build it again."""
    leaves, structure = tree.flatten(result)
    outputs: dict[Node, int] = {}
    places: list[int | None] = []
    values: list = []
    for leaf in leaves:
        if isinstance(leaf, np.ndarray):
            leaf = Array(capture(leaf))
        if isinstance(leaf, Array):
            places.append(outputs.setdefault(leaf.node, len(outputs)))
            values.append(None)
        else:
            places.append(None)
            values.append(leaf)
    return list(outputs), Output(structure, tuple(places), tuple(values))


def _finish(trace: Trace, watcher: Watcher, arguments: list, outputs: list, output: Output) -> Traced:
    outside = trace.outside()
    trace.check_unwritten(outside)
    constants = {}
    for captured in trace.captured:
        array = _now_or_then(captured, outside)
        if id(captured.array) not in outside and _is_uniform(array):
            constants[captured.node] = full(array.flat[0], captured.node.aval)
    graph = Graph(tuple(arguments), tuple(substitute(outputs, constants) if constants else outputs))
    used = set(graph.nodes)
    read = [c for c in trace.captured if c.node in used]
    graph = graph.with_inputs((*arguments, *(c.node for c in read)))
    _check_leaks(graph)
    forget(graph.nodes)
    forget([node.operands for node in graph.nodes])
    arrays = tuple(_now_or_then(c, outside) for c in read)
    guards = Guards(watcher.watch, arrays, _exact(trace, watcher, outside))
    return Traced(graph, guards, output, watcher.is_repeatable(), tuple(trace.decisions.values()))


def _is_uniform(array: np.ndarray) -> bool:
    """Whether every element is the same, so that the array is a constant spread out."""
    if array.size == 0 or not (array == array.flat[0]).all():
        return False
    return array.dtype.kind != "f" or not np.signbit(array).any()  # -0.0 equals 0.0


def _now_or_then(captured: Captured, outside: set[int]) -> np.ndarray:
    """The array itself, or, when the function wrote to an array of its own later, what it held when it was used."""
    seen = captured.seen[0]
    if id(captured.array) in outside or not isinstance(seen, bytes) or captured.array.tobytes() == seen:
        return captured.array
    return np.frombuffer(seen, captured.array.dtype).reshape(captured.node.shape)


def _exact(trace: Trace, watcher: Watcher, outside: set[int]) -> tuple:
    """Which outside arrays must keep their contents: those that elements may have been read from by NumPy itself.

    That cannot be seen directly. It shows in what came of it: arrays made inside the function (`2 * data`), NumPy
    scalars, indices; less surely in branches and conversions to Python numbers. An array made inside that is as large as
    an outside one counts whatever is in it.
    """
    shapes = {array.shape for array, _ in trace.watched.values()}
    made_inside = any(
        id(c.array) not in outside and (c.array.shape in shapes or not _is_from_nothing(c.array, watcher.makers))
        for c in trace.captured
    )
    if trace.values_read or made_inside:
        return tuple(trace.watched.values())
    return _smallest(trace.watched.values()) if watcher.decides else ()


def _smallest(watched: Iterable[tuple[np.ndarray, tuple]]) -> tuple:
    """The smallest arrays, `EXACT_LIMIT` bytes in all: numbers that steer a function come in few elements."""
    found, left = [], EXACT_LIMIT
    for array, seen in sorted(watched, key=lambda pair: pair[0].nbytes):
        left -= array.nbytes
        if left < 0:
            break
        found.append((array, seen))
    return tuple(found)


def _is_from_nothing(array: np.ndarray, makers: set[str]) -> bool:
    """Whether the array, made inside the function, looks like one that a maker named in the code makes from nothing: all 0,
    all 1, or integers counting up. What `np.sign` makes of data looks like that too, but mostly has the data's shape."""
    if array.dtype.kind == "b" or array.size == 0:
        return False
    first = array.flat[0]
    if bool((array == first).all()):
        return bool((first == 0 and "zeros" in makers) or (first == 1 and "ones" in makers))
    return "counting" in makers and array.dtype.kind in "iu" and bool((np.diff(array.reshape(-1)) == 1).all())


def _check_leaks(graph: Graph) -> None:
    """Refuses values of traces that have ended."""
    known = set(graph.inputs)
    foreign = {node for node in graph.nodes if node.primitive is INPUT and node not in known}
    if foreign:
        refuse_foreign(graph.outputs, foreign)
