"""What a loop or branch does, in order: operations on scalars in registers, on arrays in memory, inner loops and branches.

A tree of these is made by `regions`; the backend spells them out. Scalars are named by their nodes, arrays by places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..ir.node import Node, constant_value
from .access import Access
from .steps import KernelStep, RoutineStep

OPERAND, RESULT, FRAME = "operand", "result", "frame"


@dataclass(frozen=True)
class Spot:
    """Memory: that of operand or result `number`, or what starts at byte `number` of the frame; `offset` bytes further."""

    kind: str
    number: int
    offset: int = 0

    def moved(self, size: int) -> Spot:
        return Spot(self.kind, self.number, self.offset + size)


@dataclass(frozen=True)
class Window:
    """An array in memory: element [i, j, ...] is `strides` (in elements) after `spot`."""

    spot: Spot
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(eq=False)
class Operation:
    """Base of all."""


@dataclass(eq=False)
class Compute(Operation):
    """A scalar from scalars."""

    node: Node


@dataclass(eq=False)
class Same(Operation):
    """A scalar that is another one."""

    node: Node
    source: Node


@dataclass(eq=False)
class Load(Operation):
    """The scalar that lies at `spot`."""

    node: Node
    spot: Spot


@dataclass(eq=False)
class Keep(Operation):
    """Writes a scalar to `spot`."""

    spot: Spot
    value: Node


@dataclass(eq=False)
class Index:
    """A run-time index: of an axis of `extent`, `stride` elements apart. `inside`: it is known to be in range;
    `positive`: it is known not to count from the end."""

    value: Node
    extent: int
    stride: int
    inside: bool
    positive: bool


@dataclass(eq=False)
class Element(Operation):
    """A scalar read at indices."""

    node: Node
    spot: Spot
    indices: list[Index]


@dataclass(eq=False)
class StoreElement(Operation):
    """A scalar written, or added, at indices."""

    spot: Spot
    indices: list[Index]
    value: Node
    adds: bool


@dataclass(eq=False)
class StorePart(Operation):
    """`source` written, or added, to a part of an array, which begins at the indices."""

    target: Window
    indices: list[Index]
    source: Window
    adds: bool


@dataclass(eq=False)
class Copy(Operation):
    """Bytes from one spot to another; they may not overlap."""

    target: Spot
    source: Spot
    size: int


@dataclass(eq=False)
class Fill(Operation):
    """`count` elements that are all `value`."""

    target: Spot
    value: Any
    dtype: np.dtype
    count: int


@dataclass(eq=False)
class Segment(Operation):
    """Kernels and routines on arrays; `spots` are the base addresses that their words count in."""

    steps: tuple[KernelStep | RoutineStep, ...]
    buffers: dict
    scratch: tuple[int, ...]
    scratch_slot: int
    spots: list[Spot]


@dataclass(eq=False)
class Push(Operation):
    """The height of stack `home` after a value is put on it: a scalar, or the bytes at `spot`."""

    node: Node
    stack: Node
    home: int
    value: Node
    spot: Spot | None
    size: int


@dataclass(eq=False)
class Pop(Operation):
    """Takes the top of stack `home` off: into a scalar, or to `spot`. `node` is the pop, whose parts these are."""

    node: Node
    stack: Node
    home: int
    spot: Spot | None
    size: int


@dataclass(eq=False)
class Carried:
    """A scalar, or the height of a stack, that a loop carries."""

    input: Node
    init: Node
    result: Node
    part: int


@dataclass(eq=False)
class Repeat(Operation):
    """A loop."""

    node: Node
    trip: Node
    counter: Node
    carried: list[Carried]
    captured: list[tuple[Node, Node]]
    test: list[Operation]
    test_captured: list[tuple[Node, Node]]
    asked: Node | None
    body: list[Operation]
    reserved: list[tuple[int, int]] = field(default_factory=list)  # (home, bytes that each step pushes)


@dataclass(eq=False)
class Side:
    """One side of a branch: what it reads, does, and gives (scalars and heights of stacks, by part)."""

    captured: list[tuple[Node, Node]]
    operations: list[Operation]
    results: dict[int, Node]


@dataclass(eq=False)
class Choose(Operation):
    """A branch."""

    node: Node
    predicate: Node
    sides: tuple[Side, Side]


def every(operations: Iterable[Operation]) -> Iterator[Operation]:
    """The operations, those inside of loops and branches too."""
    for one in operations:
        yield one
        if isinstance(one, Repeat):
            yield from every(one.test)
            yield from every(one.body)
        elif isinstance(one, Choose):
            for side in one.sides:
                yield from every(side.operations)


def segments_of(region: Region) -> list[Segment]:
    """The work on arrays in a region."""
    return [one for one in every(region.operations) if isinstance(one, Segment)]


def pushed_bytes(operations: Iterable[Operation]) -> tuple[int, bool]:
    """Bytes that the operations put on stacks, and whether that is all: loops whose number of steps is found out at run time
    count as one step, of a branch the side that saves more."""
    total, is_known = 0, True
    for one in operations:
        if isinstance(one, Push):
            total += one.size
        elif isinstance(one, Repeat):
            inner, known = pushed_bytes(one.body)
            steps = constant_value(one.trip)
            is_exact = steps is not None and one.asked is None
            total += inner * (max(int(steps), 0) if steps is not None and is_exact else 1)
            is_known = is_known and known and (is_exact or not inner)
        elif isinstance(one, Choose):
            sides = [pushed_bytes(side.operations) for side in one.sides]
            total += max(size for size, _ in sides)
            is_known = is_known and all(known for _, known in sides)
    return total, is_known


@dataclass(eq=False)
class Region:
    """All that a loop or branch `node` of a plan does, with `frame` bytes of memory of its own. Its scalar operands are
    there at entry, its scalar results are kept at the end."""

    node: Node
    operations: list[Operation]
    frame: int


@dataclass(frozen=True, eq=False)
class ControlStep:
    """A loop or branch. `operands` are where its operands are (None: a constant), `results` the nodes of the parts that
    somebody reads."""

    node: Node
    region: Region
    operands: tuple[Access | None, ...]
    results: tuple[tuple[int, Node], ...]

    @property
    def writes(self) -> tuple[Node, ...]:
        return tuple(node for _, node in self.results)

    @property
    def touches(self) -> tuple[Node, ...]:
        return (*self.writes, *(access.base for access in self.operands if access is not None))

    def renamed(self, names: dict[Node, Node]) -> ControlStep:
        """The step with other buffers: `names[node]` in place of `node`."""
        if names.keys().isdisjoint(self.touches):
            return self
        operands = tuple(a if a is None else replace(a, base=names.get(a.base, a.base)) for a in self.operands)
        results = tuple((part, names.get(node, node)) for part, node in self.results)
        return replace(self, operands=operands, results=results)


Step = KernelStep | RoutineStep | ControlStep
