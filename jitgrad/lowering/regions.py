"""Loops and branches on their way to machine code: what is in registers and where arrays lie (see `blocks`)."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Limitation
from ..ir.aval import StackAval
from ..ir.body import Body, is_constant
from ..ir.control import Loop
from ..ir.graph import Graph
from ..ir.node import Node, constant_value
from ..transforms.opened import origin_in
from .access import view_base
from .blocks import Block, Homes, Placed, Planner, Wish, Work, is_scalar, nbytes
from .intervals import Intervals
from .memory import Arena
from .region import OPERAND, Carried, Choose, Copy, Fill, Operation, Push, Region, Repeat, Side, Spot


def lower(whole: Node, outside: dict[int, Spot], homes: Homes, planner: Planner) -> Region:
    """What the loop or branch `whole` does. `outside` has the spots of results by part, those that are wanted."""
    work = Work(planner, homes, Arena(), Intervals(), {})
    block = ControlBlock(work, [], {})
    for number, node in enumerate(whole.operands):
        if isinstance(node.aval, StackAval):
            if (home := homes.of(node)) is not None:
                block.homes[node] = home
        elif not is_scalar(node) and not is_constant(node):
            block.arrays[node] = Placed(Spot(OPERAND, number), False)
    block.apart(whole, outside)
    for (_, part), home in block.part_homes.items():
        homes.settle(whole, part, home)
    return Region(whole, block.operations, work.frame.size)


class ControlBlock(Block):
    """A block with loops and branches inside."""

    def apart(self, node: Node, outside: dict[int, Spot]) -> None:
        """The operations of a loop or branch; `outside` are spots that its results must be at, by part."""
        if node.primitive.name == "loop":
            self._loop(node, outside)
        else:
            self._branch(node, outside)

    def _captured(self, inputs: Sequence[Node], operands: Sequence[Node], arrays: dict) -> list[tuple[Node, Node]]:
        """The scalars, and heights of stacks, of a body that stand for those outside; arrays go into `arrays`."""
        scalars = []
        for inner, outer in zip(inputs, operands, strict=True):
            if is_scalar(inner) or isinstance(inner.aval, StackAval):
                scalars.append((inner, outer))
                self.work.intervals.same(inner, outer)
            else:
                arrays[inner] = Placed(self._spot(outer), False)
        return scalars

    def _loop(self, node: Node, outside: dict[int, Spot]) -> None:
        loop = Loop(node)
        counter, *rest = loop.body.graph.inputs
        inputs, captured_inputs = rest[: loop.carries], rest[loop.carries :]
        results = loop.body.graph.outputs
        carried: list[Carried] = []
        arrays: dict[Node, Placed] = {}
        homes: dict[Node, int] = {}
        fixed: dict[int, Spot] = {}
        captured = self._captured(captured_inputs, loop.captured, arrays)  # first: inits may take over memory
        for k, (inner, init) in enumerate(zip(inputs, loop.init, strict=True)):
            if is_scalar(inner):
                carried.append(Carried(inner, init, results[k], k))
            elif isinstance(inner.aval, StackAval):
                homes[inner] = self._home(init)
                carried.append(Carried(inner, init, results[k], k))
            else:
                spot = outside.get(k)
                if spot is None and _times_read(node, init) > 1:
                    spot = self.allocate(nbytes(init))
                fixed[k] = self._taken_over(init, node, spot)
                arrays[inner] = Placed(fixed[k], True)
        self.work.intervals.counter(counter, loop.trip)
        asked, test, test_captured = None, [], []  # type: ignore[var-annotated]
        if loop.test is not None:
            test, test_captured, asked = self._test(loop, arrays, inputs)
        block = ControlBlock(self.work, results, arrays, homes)
        once = [k for k in fixed if results.count(results[k]) == 1]
        block.wishes = {results[k]: Wish(inputs[k], fixed[k], None) for k in once}
        block.run()
        block.return_carries(results, fixed, inputs)
        for k, inner in enumerate(inputs):
            if isinstance(inner.aval, StackAval):
                if block.home_of(results[k]) != homes[inner]:
                    raise Limitation("a loop that exchanges the stacks that it carries", None, node.where)
                self.part_homes[node, k] = homes[inner]
            elif k in fixed:
                self.part_arrays[node, k] = Placed(fixed[k], True)
        block.give_back()
        repeat = Repeat(node, loop.trip, counter, carried, captured, test, test_captured, asked, block.operations)
        if loop.test is None:
            repeat.reserved = _pushed_once(block.operations)
        self.operations.append(repeat)

    def _test(self, loop: Loop, arrays: dict[Node, Placed], inputs: Sequence[Node]) -> tuple:
        """The operations of the test, on the body's inputs."""
        test: Body = loop.test  # type: ignore[assignment]
        own: dict[Node, Placed] = {}
        pairs = list(zip(test.graph.inputs, loop.body.graph.inputs, strict=True))
        scalars = []
        for mine, other in pairs:
            if is_scalar(mine):
                scalars.append((mine, other))
            elif other in arrays:
                own[mine] = Placed(arrays[other].spot, False)
        block = ControlBlock(self.work, test.graph.outputs, own).run()
        block.give_back()
        return block.operations, scalars, test.graph.outputs[0]

    def home_of(self, stack: Node) -> int | None:
        return self.homes.get(stack)

    def return_carries(self, results: Sequence[Node], fixed: dict[int, Spot], inputs: Sequence[Node]) -> None:
        """Copies what the next step finds in place of the carries to where it finds it; all at once, as a carry may come
        to be what another one was."""
        first: list[Operation] = []
        second: list[Operation] = []
        where = {k: None if constant_value(results[k]) is not None else self._spot(results[k]) for k in fixed}
        for k, spot in fixed.items():
            result, size = results[k], results[k].aval.size * results[k].dtype.itemsize
            source = where[k]
            if source is None:
                second.append(Fill(spot, constant_value(result), result.dtype, result.aval.size))
            elif source != spot:
                if self._is_carry(source, fixed):
                    aside = self.allocate(max(1, size))
                    first.append(Copy(aside, source, size))
                    source = aside
                second.append(Copy(spot, source, size))
        self.operations += first + second

    @staticmethod
    def _is_carry(source: Spot, fixed: dict[int, Spot]) -> bool:
        """Whether the memory may be a carry's, or a part of it."""
        return any((spot.kind, spot.number) == (source.kind, source.number) for spot in fixed.values())

    def _branch(self, node: Node, outside: dict[int, Spot]) -> None:
        operands = node.operands[1:]
        owned = {k: self._overwritable(o, node) and _times_read(node, o) == 1 for k, o in enumerate(operands)}
        bodies = [node.params["then"].graph, node.params["otherwise"].graph]
        blocks, scalars = [], []
        shared = self._shared_homes(node)
        for body, own in zip(bodies, shared, strict=True):
            arrays: dict[Node, Placed] = {}
            captured = self._captured(body.inputs, operands, arrays)
            for k, inner in enumerate(body.inputs):
                if inner in arrays:
                    arrays[inner] = Placed(arrays[inner].spot, owned[k])
            homes = {
                inner: self._home_outside(outer)
                for inner, outer in zip(body.inputs, operands, strict=True)
                if isinstance(inner.aval, StackAval)
            }
            blocks.append(ControlBlock(self.work, body.outputs, arrays, homes | own).run())
            scalars.append(captured)
            for output in body.outputs:
                if not is_scalar(output) and not isinstance(output.aval, StackAval):
                    blocks[-1]._spot(output)
        for k in range(len(bodies[0].outputs)):
            self._joined(node, k, bodies, blocks, outside.get(k))
        sides = []
        for body, block, captured in zip(bodies, blocks, scalars, strict=True):
            given = {
                k: output for k, output in enumerate(body.outputs) if is_scalar(output) or isinstance(output.aval, StackAval)
            }
            sides.append(Side(captured, block.operations, given))
            block.give_back()
        self.operations.append(Choose(node, node.operands[0], (sides[0], sides[1])))

    def _shared_homes(self, node: Node) -> tuple[dict[Node, int], dict[Node, int]]:
        """The stacks that start inside of a branch and leave it: one home for both sides, as one of them is taken."""
        found: tuple[dict[Node, int], dict[Node, int]] = ({}, {})
        sides = node.params["then"], node.params["otherwise"]
        for k, aval in enumerate(sides[0].output_avals):
            if isinstance(aval, StackAval):
                origins = [origin_in(side, k) for side in sides]
                if any(o in side.graph.inputs for o, side in zip(origins, sides, strict=True)):
                    continue
                home = self.work.branch_homes.get((node, k))
                home = self.work.homes.new() if home is None else home
                for homes, origin in zip(found, origins, strict=True):
                    if origin.primitive.name == "empty":
                        homes[origin] = home
                    else:  # it begins in a branch inside
                        self.work.branch_homes[origin.operands[0], origin.params["part"]] = home
        return found

    def _home_outside(self, stack: Node) -> int:
        """The stack that a branch is given; one that starts empty there gets its home once, for both sides."""
        if stack not in self.homes:
            self.homes[stack] = self._home(stack)
        return self.homes[stack]

    def _joined(self, node: Node, k: int, bodies: Sequence[Graph], blocks: Sequence[ControlBlock], spot: Spot | None) -> None:
        """Where part `k` of a branch is, whichever side was taken."""
        outputs = [body.outputs[k] for body in bodies]
        if is_scalar(outputs[0]):
            return
        if isinstance(outputs[0].aval, StackAval):
            found = [block.homes.get(output) for block, output in zip(blocks, outputs, strict=True)]
            if None in found or found[0] != found[1]:
                raise Limitation("a branch whose sides give different stacks", None, node.where)
            self.part_homes[node, k] = found[0]  # type: ignore[assignment]
            return
        spots = [block._spot(output) for block, output in zip(blocks, outputs, strict=True)]
        if spot is None and spots[0] == spots[1] and not any(block.is_own(spots[0]) for block in blocks):
            owned = all(block.arrays[o].owned if o in block.arrays else False for block, o in zip(blocks, outputs, strict=True))
            self.part_arrays[node, k] = Placed(spots[0], owned)
            return
        target = spot or self.allocate(nbytes(outputs[0]))
        size = outputs[0].aval.size * outputs[0].dtype.itemsize
        for block, source in zip(blocks, spots, strict=True):
            block.operations.append(Copy(target, source, size))
        self.part_arrays[node, k] = Placed(target, True)


def _times_read(node: Node, operand: Node) -> int:
    """How many operands of `node` lie in the memory of one of them."""
    return sum(view_base(other) is view_base(operand) for other in node.operands)


def _pushed_once(operations: Sequence[Operation]) -> list[tuple[int, int]]:
    """(home, bytes) of the stacks on which each step of a loop pushes once, if nothing else pushes on them."""
    counts: dict[int, list[int]] = {}
    for operation in operations:
        if isinstance(operation, Push):
            counts.setdefault(operation.home, []).append(operation.size)
    inner = _homes_inside(operations)
    return [(home, sizes[0]) for home, sizes in counts.items() if len(sizes) == 1 and home not in inner]


def _homes_inside(operations: Sequence[Operation]) -> set[int]:
    """The stacks on which inner loops and branches push."""
    found: set[int] = set()
    for operation in operations:
        inner: list[Sequence[Operation]] = []
        if isinstance(operation, Repeat):
            inner = [operation.body]
        elif isinstance(operation, Choose):
            inner = [side.operations for side in operation.sides]
        for one in inner:
            found |= _homes_inside(one) | {o.home for o in one if isinstance(o, Push)}
    return found

