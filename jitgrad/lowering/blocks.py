"""Loops and branches on their way to machine code: what is in registers and where arrays lie.

The nodes of a body are gone through in an order in which an array is read before it is overwritten (`ir.graph.scheduled`).
Scalars are computed one by one. Work on arrays is collected until something needs it, and becomes the kernels of a
small graph of its own, planned as any graph is. A store is done in place where the array belongs to the loop and is not
read later; else on a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from ..ir.aval import StackAval
from ..ir.body import exchanged, is_constant
from ..ir.graph import Graph, scheduled
from ..ir.node import INPUT, Node, apply, constant_value, fresh_input
from ..ir.primitive import Control, Gather, Scalar, Structure, View
from ..ops.stores import INTO
from .access import Accesses, contiguous_strides, view_base
from .intervals import Intervals
from .memory import Arena
from .region import (
    FRAME,
    Compute,
    Copy,
    Element,
    Fill,
    Index,
    Keep,
    Load,
    Operation,
    Pop,
    Push,
    Same,
    Segment,
    Spot,
    StoreElement,
    StorePart,
    Window,
)
from .steps import KernelStep

Planner = Callable[[Graph], tuple]
"""Plans a graph of arrays: (steps, buffers, scratch, arena bytes, arena slot, the nodes that are its outputs)."""


def is_scalar(node: Node) -> bool:
    return node.aval.shape == () and not isinstance(node.aval, StackAval)


def nbytes(node: Node) -> int:
    return max(1, node.aval.size) * node.dtype.itemsize


@dataclass(frozen=True)
class Wish:
    """A result had better be written at `spot`, where `array` is, all of it or the region that `user` puts it into."""

    array: Node
    spot: Spot
    user: Node | None


@dataclass
class Placed:
    """Where an array is, and whether it may be overwritten."""

    spot: Spot
    owned: bool


class Homes:
    """The stacks of a plan: how many there are, and which one a part of a loop's or branch's results is."""

    def __init__(self) -> None:
        self.count = 0
        self._of: dict[tuple[Node, int], int] = {}

    def new(self) -> int:
        self.count += 1
        return self.count - 1

    def of(self, stack: Node) -> int | None:
        """Which stack `stack` is, a part of results; None for one that is empty yet."""
        return self._of[stack.operands[0], stack.params["part"]] if stack.primitive.name == "get" else None

    def settle(self, whole: Node, part: int, home: int) -> None:
        self._of[whole, part] = home


@dataclass
class Work:
    """What all blocks of one region share."""

    planner: Planner
    homes: Homes
    frame: Arena
    intervals: Intervals
    branch_homes: dict[tuple[Node, int], int]  # of stacks that begin inside of branches, by the branch and the part


class Block:
    """One body, or a side: nodes into operations. Loops and branches inside are for the class below."""

    def __init__(self, work: Work, outputs: Sequence[Node], arrays: dict[Node, Placed], homes: dict[Node, int] | None = None):
        self.work, self.outputs, self.arrays = work, list(outputs), arrays
        self.homes: dict[Node, int] = homes or {}
        self.part_homes: dict[tuple[Node, int], int] = {}
        self.part_arrays: dict[tuple[Node, int], Placed] = {}
        self.operations: list[Operation] = []
        self.taken: list[tuple[int, int]] = []  # (offset, bytes) of the frame
        self.pending: dict[Node, None] = {}
        self.wishes: dict[Node, Wish] = {}  # of results that are not computed yet
        self.granted: dict[Node, Wish] = {}
        self.done: set[Node] = set()
        self.order = scheduled(self.outputs)
        self.readers: dict[Node, set[Node | None]] = {}
        for node in self.order:
            for operand in node.operands:
                self.readers.setdefault(operand, set()).add(node)
                self.readers.setdefault(view_base(operand), set()).add(node)
        for output in self.outputs:
            self.readers.setdefault(output, set()).add(None)
            self.readers.setdefault(view_base(output), set()).add(None)

    def apart(self, node: Node, outside: dict[int, Spot]) -> None:
        """The operations of a loop or branch; `outside` are spots that its results must be at, by part."""
        raise NotImplementedError

    def run(self) -> Self:
        """All operations."""
        for node in self.order:
            self._node(node)
        if any(not is_scalar(view_base(o)) and self._is_pending(o) for o in self.outputs) or any(
            o in self.pending for o in self.outputs
        ):
            self._flush()
        return self

    # --- one node

    def _node(self, node: Node) -> None:
        code = node.primitive.code
        if node.primitive is INPUT or is_constant(node) or node.primitive.name in ("get", "empty"):
            self._part(node)
        elif isinstance(code, View):
            if is_scalar(node):
                self._scalar_view(node)
        elif isinstance(code, Control):
            self._ready(node)
            self.apart(node, {})
        elif isinstance(code, Structure):
            self._ready(node)
            self._stack_operation(node)
        elif isinstance(code, Scalar) and is_scalar(node):
            self._ready(node)
            self.operations.append(Compute(node))
            self.work.intervals.compute(node)
        elif isinstance(code, Gather) and is_scalar(node):
            self._ready(node)
            x, *indices = node.operands
            self.operations.append(Element(node, self._spot(x), self._indices(x, indices)))
        elif node.primitive.name in _STORES and node.operands[2].aval.shape == ():
            self._ready(node)
            self._store(node)
        elif node.primitive.name == "put":
            self._wish_in_place(node)
            self._ready(node)
            self._put(node)
        else:
            self.pending[node] = None
            return
        self.done.add(node)

    def _part(self, node: Node) -> None:
        if node.primitive.name != "get":
            return
        key = node.operands[0], node.params["part"]
        if key in self.part_homes:
            self.homes[node] = self.part_homes[key]
        if key in self.part_arrays:
            self.arrays[node] = self.part_arrays[key]

    def _ready(self, node: Node) -> None:
        """Sees to it that pending work that `node` needs, or whose input it may overwrite, is done."""
        if any(self._is_pending(operand) for operand in node.operands):
            self._flush()
        overwrites = node.primitive.overwrites
        if overwrites is None:
            return
        for place in overwrites(**node.params):
            base = view_base(node.operands[place])
            if any(reader in self.pending for reader in self._reading(base)):
                self._flush()

    def _reading(self, base: Node) -> set[Node | None]:
        """Who reads `base`, through views too."""
        found: set[Node | None] = set()
        waiting = [base]
        while waiting:
            for reader in self.readers.get(waiting.pop(), ()):
                if reader not in found:
                    found.add(reader)
                    if reader is not None and isinstance(reader.primitive.code, View):
                        waiting.append(reader)
        return found

    def _is_pending(self, node: Node) -> bool:
        return node in self.pending or view_base(node) in self.pending

    def _scalar_view(self, node: Node) -> None:
        if is_scalar(node.operands[0]):
            self.operations.append(Same(node, node.operands[0]))
            self.work.intervals.same(node, node.operands[0])
            return
        base = view_base(node)
        if base in self.pending:
            self._flush()
        if is_scalar(base):
            self.operations.append(Same(node, base))
            return
        access = Accesses({}).of(node)
        if access is None or base not in self.arrays:
            self.pending[node] = None
            self._flush()
            return
        self.operations.append(Load(node, self.arrays[base].spot.moved(access.offset * node.dtype.itemsize)))

    # --- memory

    def allocate(self, size: int) -> Spot:
        offset = self.work.frame.take(size)
        self.taken.append((offset, size))
        return Spot(FRAME, offset)

    def give_back(self) -> None:
        """The block's memory is free again."""
        for offset, size in self.taken:
            self.work.frame.give(offset, size)
        self.taken = []

    def is_own(self, spot: Spot) -> bool:
        """Whether it is in memory that is free again when the block is done."""
        return spot.kind == FRAME and any(offset <= spot.number < offset + size for offset, size in self.taken)

    def _spot(self, node: Node) -> Spot:
        """Where the elements of an array lie in C order; they are put there if they are not."""
        if node in self.arrays:
            return self.arrays[node].spot
        base = view_base(node)
        known = constant_value(node)
        if known is not None:
            spot = self.allocate(nbytes(node))
            self.operations.append(Fill(spot, known, node.dtype, node.aval.size))
            self.arrays[node] = Placed(spot, True)
            return spot
        if base in self.arrays and node is not base:
            access = Accesses({}).of(node)
            if access is not None and _is_contiguous(access.shape, access.strides):
                return self.arrays[base].spot.moved(access.offset * node.dtype.itemsize)
        if base in self.pending:
            self._flush()
            return self._spot(node)
        self._segment([node])
        return self.arrays[node].spot

    def _overwritable(self, node: Node, user: Node) -> bool:
        """Whether `user` may overwrite the memory of `node`: nobody reads it later."""
        array = self.arrays.get(node)
        if array is None or not array.owned:
            return False
        return all(r is not None and (r is user or r in self.done or isinstance(r.primitive.code, View))
                   for r in self._reading(node))  # fmt: skip

    def _taken_over(self, node: Node, user: Node, spot: Spot | None = None) -> Spot:
        """Memory with the elements of `node` that may be changed: its own where `user` is the last to read it, else a copy
        (at `spot`, if that is given)."""
        if spot is None and self._overwritable(node, user):
            return self.arrays[node].spot
        known = constant_value(node)
        source = None if known is not None else self._spot(node)
        target = spot or self.allocate(nbytes(node))
        if source is None:
            self.operations.append(Fill(target, known, node.dtype, node.aval.size))
        elif source != target:
            self.operations.append(Copy(target, source, node.aval.size * node.dtype.itemsize))
        return target

    # --- stores

    def _indices(self, x: Node, indices: Sequence[Node]) -> list[Index]:
        strides = contiguous_strides(x.shape)
        found = []
        for axis, node in enumerate(indices):
            low, high = self.work.intervals.of(node)
            positive = low is not None and low >= 0
            inside = positive and high is not None and high < x.shape[axis]
            found.append(Index(node, x.shape[axis], strides[axis], inside, positive))
        return found

    def _store(self, node: Node) -> None:
        x, value, *indices = node.operands
        adds = node.primitive.name == "scatter_add"
        source = None if is_scalar(value) else self._apart_from(x, value)
        spot = self._taken_over(x, node)
        places = self._indices(x, indices)
        if source is None:
            self.operations.append(StoreElement(spot, places, value, adds))
        else:
            row = x.shape[len(indices) :]
            strides = contiguous_strides(row)
            target = Window(spot, x.dtype, row, strides)
            self.operations.append(StorePart(target, places, Window(source, x.dtype, row, strides), adds))
        self.arrays[node] = Placed(spot, True)

    def _wish_in_place(self, node: Node) -> None:
        """Has a value that is only computed in order to be put into an array written there at once."""
        x, value = node.operands
        array = self.arrays.get(x)
        if value in self.pending and array is not None and array.owned and self._reading(value) == {node}:
            self.wishes[value] = Wish(x, array.spot, node)

    def _put(self, node: Node) -> None:
        x, value = node.operands
        wish = self.granted.get(value)
        if wish is not None and wish.user is node:
            self.arrays[node] = self.arrays[x]
            return
        source = self._apart_from(x, value)
        spot = self._taken_over(x, node)
        starts, steps = node.params["starts"], node.params["steps"]
        whole = contiguous_strides(x.shape)
        offset = sum(a * s for a, s in zip(starts, whole, strict=True)) * x.dtype.itemsize
        strides = tuple(a * s for a, s in zip(steps, whole, strict=True))
        target = Window(spot.moved(offset), x.dtype, value.shape, strides)
        self.operations.append(
            StorePart(target, [], Window(source, x.dtype, value.shape, contiguous_strides(value.shape)), False)
        )
        self.arrays[node] = Placed(spot, True)

    def _apart_from(self, x: Node, value: Node) -> Spot:
        """Where `value` lies in memory, and not in that of `x`."""
        if not is_scalar(value) or constant_value(value) is not None:
            spot = self._spot(value)
            if view_base(value) is not view_base(x):
                return spot
            aside = self.allocate(nbytes(value))
            self.operations.append(Copy(aside, spot, value.aval.size * value.dtype.itemsize))
            return aside
        spot = self.allocate(8)
        self.operations.append(Keep(spot, value))
        return spot

    # --- stacks

    def _stack_operation(self, node: Node) -> None:
        stack = node.operands[0]
        home = self._home(stack)
        if node.primitive.name == "push":
            value = node.operands[1]
            spot = None if is_scalar(value) else self._spot(value)
            self.operations.append(Push(node, stack, home, value, spot, value.aval.size * value.dtype.itemsize))
            self.homes[node] = home
            return
        element = stack.aval.element  # type: ignore[attr-defined]
        size = element.size * element.dtype.itemsize
        spot = None if element.shape == () else self.allocate(max(1, size))
        self.operations.append(Pop(node, stack, home, spot, size))
        self.part_homes[node, 0] = home
        if spot is not None:
            self.part_arrays[node, 1] = Placed(spot, True)

    def _home(self, stack: Node) -> int:
        if stack.primitive.name == "empty" and stack not in self.homes:
            return self.work.homes.new()
        return self.homes[stack]

    # --- kernels

    def _flush(self) -> None:
        """Does the pending work, with what others read of it as results."""
        wanted: list[Node] = []
        for node in self.pending:
            if any(r is None or r not in self.pending and not isinstance(r.primitive.code, View) for r in self._reading(node)):
                wanted.append(node)
        self._segment(wanted)
        self.done.update(self.pending)
        self.pending.clear()

    def _segment(self, results: list[Node]) -> None:
        """The kernels that compute `results`."""
        results = [node for node in results if node not in self.arrays]
        if not results:
            return
        inputs = self._inputs_of(results)
        stand_ins = {node: fresh_input(node.aval) for node in inputs}
        made = exchanged(results, dict(stand_ins))
        wishes = {k: wish for k, node in enumerate(results) if (wish := self.wishes.pop(node, None))}
        while True:  # without the wishes that turn out not to be possible
            outputs = [_into(wishes[k].user, node) if k in wishes else node for k, node in enumerate(made)]
            plan = self.work.planner(Graph(tuple(stand_ins.values()), tuple(outputs)))
            refused = [k for k, wish in wishes.items() if not self._may_grant(wish, plan[-1][k], stand_ins, plan[0])]
            if not refused:
                break
            del wishes[refused[0]]
        steps, buffers, scratch, arena, arena_slot, _ = plan
        self.granted.update((results[k], wish) for k, wish in wishes.items())
        spots = []
        for node in inputs:
            if node in self.arrays:
                spots.append(self.arrays[node].spot)
            else:
                spots.append(self.allocate(8))
                self.operations.append(Keep(spots[-1], node))
        places = [wishes[k].spot if k in wishes else self.allocate(nbytes(node)) for k, node in enumerate(results)]
        spots += [*places, self.allocate(max(1, arena)), self.allocate(1)]
        self.operations.append(Segment(steps, buffers, scratch, arena_slot, spots))
        for node, spot in zip(results, places, strict=True):
            if is_scalar(node):
                self.operations.append(Load(node, spot))
            else:
                self.arrays[node] = Placed(spot, True)

    def _may_grant(self, wish: Wish, output: Node, stand_ins: dict[Node, Node], steps: Sequence) -> bool:
        """Whether a result may be written where it had better be: nobody reads any more what is there."""
        for reader in self._reading(wish.array):
            if reader is None or not (self._has_read(reader) or reader is wish.user):
                return False
        inputs = [(node, self.arrays[node].spot) for node in stand_ins if node in self.arrays]
        if any(spot == wish.spot and node is not wish.array for node, spot in inputs):
            return False
        read = stand_ins.get(wish.array)
        return read is None or _writes_where_it_reads(steps, read, output)

    def _has_read(self, reader: Node) -> bool:
        """Whether `reader` has read, or will when what is pending is done."""
        return reader in self.done or reader in self.pending or isinstance(reader.primitive.code, View)

    def _inputs_of(self, results: list[Node]) -> list[Node]:
        """The arrays and scalars that `results` are computed from, as far as they are there."""
        found: dict[Node, None] = {}
        seen: set[Node] = set()
        waiting = list(reversed(results))
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            there = node in self.arrays or (is_scalar(node) and node not in self.pending and node not in results)
            if there and not is_constant(node):
                found[node] = None
            else:
                waiting += reversed(node.operands)
        return list(found)


_STORES = {"scatter_add", "scatter_set"}


def _into(user: Node | None, value: Node) -> Node:
    """`value`, stored into the region that the put `user` stores it into."""
    if user is None:
        return value
    return apply(INTO, value, shape=user.shape, starts=user.params["starts"], steps=user.params["steps"])


def _writes_where_it_reads(steps: Sequence, read: Node, written: Node) -> bool:
    """Whether `written` may lie where `read` does: whoever reads that does so before, or place by place as it is written."""
    is_written = False
    for step in steps:
        if read in step.touches:
            if is_written:
                return False
            if written in step.writes and not (isinstance(step, KernelStep) and _place_by_place(step, read, written)):
                return False
        is_written |= written in step.writes
    return True


def _place_by_place(step: KernelStep, read: Node, written: Node) -> bool:
    """Whether the kernel reads of `read` only what it writes then, where `written` lies at the same place."""
    binding, kernel = step.binding, step.kernel

    def ways(node: Node) -> set[tuple]:
        slots = [k for k, buffer in enumerate(binding.buffers) if buffer is node]
        return {(binding.offsets[k], binding.strides[k], kernel.arrays[k].indexed) for k in slots}

    at = {read: ways(read), written: ways(written)}
    stored = {binding.buffers[store.slot] for store in kernel.stores if not store.indices}
    return written in stored and len(at[read]) == 1 and at[read] == at[written] and not next(iter(at[read]))[2]


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    wanted = contiguous_strides(shape)
    return all(extent == 1 or have == want for extent, have, want in zip(shape, strides, wanted, strict=True))
