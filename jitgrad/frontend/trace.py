"""The trace that is running, and the outside arrays that flow into it.

An outside array that meets a traced value becomes an input of the graph of its own ("captured"). If it can be reached
from elsewhere after the trace it is read at each call, so that changes in place are seen; if it was made inside the
function it is a constant, with the contents it had when it was used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from ..errors import Limitation, Location, UsageError, UsageTypeError, user_location
from ..ir.aval import Aval, aval_of
from ..ir.graph import topological
from ..ir.node import Node, fresh_input, interning

SMALL = 1 << 16
"""Contents of arrays up to this many bytes are remembered whole; of larger ones a fingerprint is kept."""


def array_aval(array: np.ndarray) -> Aval:
    """The aval of an outside array: its dtype in native byte order."""
    dtype = check_dtype(array.dtype)
    return aval_of(array.shape, dtype if dtype.isnative else dtype.newbyteorder("="))


def check_dtype(dtype: np.dtype, what: str = "an array") -> np.dtype:
    """`dtype` itself if jitgrad can trace arrays of it: bool, integers, real floats."""
    if dtype.kind in "fiub":
        return dtype
    if dtype.kind == "c":
        raise Limitation(f"{what} of dtype {dtype}: complex numbers are not supported", "Use real and imaginary parts.")
    raise UsageTypeError(f"{what} of dtype {dtype} cannot be traced", "Use arrays of bool, integers or real floats.")


def plain(array: np.ndarray, what: str = "an array") -> np.ndarray:
    """`array` as a plain ndarray over the same memory; subclasses with a meaning of their own are refused."""
    if type(array) is np.ndarray:
        return array
    if type(array) is np.memmap:
        return array.view(np.ndarray)
    raise UsageTypeError(
        f"{what} is a {type(array).__module__}.{type(array).__name__}, whose operations differ from ndarray's",
        "Pass a plain array: np.asarray(x), or x.filled(value) of a masked array.",
    )


def contents(array: np.ndarray) -> tuple:
    """A value that changes when the array's elements, shape or strides change: exact for small arrays.

    Large arrays: sums over rows and over columns of the memory seen as words, so that a changed word, a swap or a
    permutation all show.
    """
    if 0 in array.strides and array.size:  # a broadcast: what is repeated is looked at once
        once = array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]
        if once.size < array.size:
            return contents(once)[0], array.shape, array.strides
    if array.nbytes <= SMALL:
        return array.tobytes(), array.shape, array.strides
    if array.dtype.hasobject:
        return hash(array.tobytes()), array.shape, array.strides
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = data.size - data.size % (8 << 10)
    words = data[:whole].view(np.uint64).reshape(-1, 1 << 10)
    sums = np.concatenate([words.sum(0), words.sum(1)])
    return hash((sums.tobytes(), data[whole:].tobytes())), array.shape, array.strides


def owner(array: np.ndarray):
    """What owns the memory of `array`: the array that it is a view of, or whatever object lends the buffer."""
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array


@dataclass(eq=False)
class Captured:
    """An outside array and the graph input that stands for it."""

    node: Node
    array: np.ndarray
    seen: tuple  # its contents when it was used
    where: Location | None


class Trace:
    """One Python function on its way to being a graph.

    `watched` maps the id of an array that the function's surroundings hold to (array, contents at first
    sight); it fills while the function runs.
    """

    def __init__(self):
        self.captured: list[Captured] = []
        self.watched: dict[int, tuple[np.ndarray, tuple]] = {}
        self.values_read = False  # the trace depends on elements of arrays, not only on shapes
        self.ended: set[Node] = set()  # inputs of inner derivatives that are done: nothing may depend on them
        self.decisions: dict = {}  # by node; see `decisions`
        self.stand_ins: dict[Node, Node] = {}  # inputs of inner derivatives, and what they stand for
        self.values: dict = {}  # of nodes at the call that is traced, those that were asked for
        self._owners: set[int] = set()
        self._by_id: dict[int, Captured] = {}

    def capture(self, array: np.ndarray) -> Node:
        """The input that stands for `array` as it is now."""
        array = plain(array)
        found = self._by_id.get(id(array))
        if found is not None and (self._stays(found) or found.seen == contents(array)):
            return found.node
        where = user_location(2)
        captured = Captured(fresh_input(array_aval(array)), array, contents(array), where)
        self.captured.append(captured)
        self._by_id[id(array)] = captured  # `captured` holds the array, so its id stays its own
        return captured.node

    def _stays(self, captured: Captured) -> bool:
        """Whether a second look at the contents can wait until the trace ends, where a change is refused."""
        return captured.array.nbytes > SMALL or self._is_outside(captured.array)

    def _is_outside(self, array: np.ndarray) -> bool:
        return id(array) in self.watched or id(owner(array)) in self._owners

    def watch(self, array: np.ndarray) -> None:
        """Notes an array that can be reached from outside of the function."""
        if id(array) not in self.watched:
            self.watched[id(array)] = array, contents(array)
            self._owners.add(id(owner(array)))

    def read_values(self, value) -> None:
        """Hears that elements of `value`, an array or a NumPy scalar, now are part of what is traced."""
        self.values_read = True

    def outside(self) -> set[int]:
        """ids of those captured arrays that others will still hold when the function has returned.

        To be asked when nothing of the run (frames, results) is alive any more. Others hold the owner of the memory if
        it has more references than the ones we know.
        """
        known = _known_references(self.captured)
        return {id(c.array) for c in self.captured if self._is_outside(c.array) or _held_elsewhere(c, known)}

    def check_unwritten(self, outside: set[int]) -> None:
        """Refuses a function that wrote to an array that others hold: a compiled program would not do it again."""
        for array, seen in self.watched.values():
            if contents(array) != seen:
                raise written_outside(array, None)
        for captured in self.captured:
            if (id(captured.array) in outside or captured.array.nbytes > SMALL) and (
                contents(captured.array) != captured.seen
            ):
                raise written_outside(captured.array, captured.where)


def _known_references(captured: list[Captured]) -> dict[int, int]:
    """For each owner of memory, by id, the references to it that come from `captured`."""
    known: dict[int, int] = {}
    views: set[int] = set()
    for one in captured:
        key = id(owner(one.array))
        if id(one.array) == key:
            known[key] = known.get(key, 0) + 1
        elif id(one.array) not in views:  # its .base is the reference; several captures of a view share it
            views.add(id(one.array))
            known[key] = known.get(key, 0) + 1
    return known


def _references(captured: Captured) -> int:
    return sys.getrefcount(owner(captured.array))


_REFERENCES_OF_ONE = _references(Captured(None, np.empty(0), (), None))  # type: ignore[arg-type]


def _held_elsewhere(captured: Captured, known: dict[int, int]) -> bool:
    """Whether something else than the captures keeps the array's memory."""
    if not isinstance(owner(captured.array), np.ndarray):
        return True  # a buffer of bytes, a file, another library's memory
    return _references(captured) - _REFERENCES_OF_ONE + 1 > known[id(owner(captured.array))]


def written_outside(array: np.ndarray, where: Location | None) -> UsageError:
    return UsageError(
        f"the function writes to an outside array of shape {array.shape} while it is being traced",
        "A compiled function only computes: return the new values, or make the array inside the function.",
        where,
    )


_current: ContextVar[Trace | None] = ContextVar("jitgrad_trace", default=None)


def current() -> Trace | None:
    """The trace that is running in this thread or task."""
    return _current.get()


@contextmanager
def tracing():
    """Opens a trace, with a scope for its nodes."""
    with interning():
        token = _current.set(Trace())
        try:
            yield _current.get()
        finally:
            _current.reset(token)


def capture(array: np.ndarray) -> Node:
    """The node of an outside array in the trace that is running: an extra input of its graph."""
    return _running().capture(array)


def read_values(value) -> None:
    """Elements of `value`, an outside array or a NumPy scalar, decide what is traced: a later change means a new trace."""
    _running().read_values(value)


def _running() -> Trace:
    trace = _current.get()
    if trace is None:
        raise outside_error()
    return trace


def end_inputs(inputs: Iterable[Node]) -> None:
    """The function whose fresh inputs these are has returned: what still uses them has leaked out of it."""
    _running().ended.update(inputs)


def stand_for(inputs: Iterable[Node], actual: Iterable[Node]) -> None:
    """The fresh inputs of a derivative stand for these nodes."""
    _running().stand_ins.update(zip(inputs, actual, strict=True))


def check_alive(outputs: Iterable[Node]) -> None:
    """Refuses outputs that depend on the inputs of a derivative that is done."""
    ended = _running().ended
    if ended:
        refuse_foreign(outputs, ended)


def refuse_foreign(outputs: Iterable[Node], foreign: set[Node]) -> None:
    """Refuses outputs that depend on one of `foreign`, naming the line where it was used."""
    if not foreign.isdisjoint(nodes := topological(outputs)):
        user = next((node for node in nodes if not foreign.isdisjoint(node.operands)), None)
        raise outside_error(None if user is None else user.where)


def outside_error(where: Location | None = None) -> UsageError:
    """A traced value is used when its trace has ended."""
    return UsageError(
        "a traced value is used after the call that it belongs to has ended",
        "Return values from the function instead of keeping them in a global, an attribute or a list.",
        where,
    )
