"""Loops and branches taken apart for derivatives, and put together again with more in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import Limitation
from ..ir.aval import StackAval
from ..ir.body import Body, between, close, is_unchanging, mark_changing
from ..ir.control import Loop, get
from ..ir.graph import topological
from ..ir.node import INPUT, Node, call, fresh_input


@dataclass
class OpenLoop:
    """A loop's body on fresh inputs: the counter, the carries, and what is captured."""

    i: Node
    carries: list[Node]
    captured: list[Node]
    results: list[Node]
    asked: Node | None


def open_loop(loop: Loop) -> OpenLoop:
    inputs = loop.body.fresh_inputs()
    carries, captured = inputs[1 : 1 + loop.carries], inputs[1 + loop.carries :]
    mark_changing([*carries, *(c for c, outer in zip(captured, loop.captured, strict=True) if not is_unchanging(outer))])
    results = loop.body.opened(inputs)
    asked = None if loop.test is None else loop.test.opened(inputs)[0]
    return OpenLoop(inputs[0], carries, captured, results, asked)


@dataclass
class Part:
    """A carry of a new loop, or an operand and result of a new branch: its input in the body, what is there at first, what
    the body makes of it."""

    input: Node
    init: Node
    result: Node


def new_loop(trip: Node, i: Node, parts: Sequence[Part], captured: dict[Node, Node], asked: Node | None) -> Node:
    """The loop node; `captured` maps inputs of the body to what is captured."""
    roots = [*(part.result for part in parts), *([] if asked is None else [asked])]
    own = {i, *(part.input for part in parts)}
    used = [node for node in between(roots, own) if node.primitive is INPUT and node not in own]
    inputs = [i, *(part.input for part in parts), *used]
    body = close(inputs, roots[: len(parts)])
    test = None if asked is None else close(inputs, [asked])
    operands = [*(part.init for part in parts), *(captured[node] for node in used)]
    return call("loop", trip, *operands, body=body, test=test, carries=len(parts))


def new_branch(predicate: Node, captured: dict[Node, Node], sides: Sequence[Sequence[Node]]) -> Node:
    """The branch node between the results `sides`, on inputs that `captured` maps to what is outside."""
    used = [node for node in topological([*sides[0], *sides[1]]) if node.primitive is INPUT]
    bodies = [close(used, side) for side in sides]
    return call("cond", predicate, *(captured[node] for node in used), then=bodies[0], otherwise=bodies[1])


# --- stacks of loops and branches inside a body: where they start, and what is left of them


@dataclass
class Thread:
    """A stack that a part of the forward body fills and a part of the reverse body empties: it goes through both loops.

    `start` is the empty stack that it begins as, `filled` what the forward body makes of it, `left` what the reverse
    body leaves of `filled`.
    """

    start: Node
    filled: Node
    left: Node


def thread_of(filled: Node, reverse: Sequence[Node]) -> Thread:
    """The way of the stack `filled`; `reverse` are the nodes of the reverse body."""
    return Thread(_beginning(filled), filled, _left_of(filled, reverse))


def _beginning(stack: Node) -> Node:
    while stack.primitive.name != "empty":
        match stack.primitive.name:
            case "push":
                stack = stack.operands[0]
            case "get":
                whole = stack.operands[0]
                before = _before(whole, stack.params["part"])
                if before is None:
                    raise Limitation("a derivative of so high an order through this branch", None, whole.where)
                stack = before
            case name:
                raise AssertionError(f"a stack from {name}")
    return stack


def _before(whole: Node, part: int) -> Node | None:
    """The stack that a loop, a branch or a pop was given in place of the one that it gives as `part`; None for one that starts
    inside of a branch."""
    match whole.primitive.name:
        case "loop":
            return whole.operands[1 + part]
        case "cond":
            place = _source_in(whole.params["then"], part)
            if place is None:
                place = _source_in(whole.params["otherwise"], part)
            return None if place is None else whole.operands[1 + place]
    return whole.operands[0]


def _source_in(body: Body, part: int) -> int | None:
    """Which input the stack is that a body gives as its result `part`; None for one that starts inside of it."""
    inputs = body.graph.inputs
    stack = origin_in(body, part)
    return inputs.index(stack) if stack in inputs else None


def origin_in(body: Body, part: int) -> Node:
    """Where the stack begins that a body gives as its result `part`: an input, an empty stack, or the result of a branch
    in which it begins."""
    inputs = body.graph.inputs
    stack = body.graph.outputs[part]
    while stack not in inputs and stack.primitive.name != "empty":
        pushed = stack.primitive.name == "push"
        before = stack.operands[0] if pushed else _before(stack.operands[0], stack.params["part"])
        if before is None:
            return stack
        stack = before
    return stack


def _left_of(stack: Node, reverse: Sequence[Node]) -> Node:
    """What the nodes of `reverse` leave of `stack`: it goes from one of them to the next."""
    reader: dict[Node, Node] = {}
    for node in reverse:
        for operand in node.operands:
            if isinstance(operand.aval, StackAval):
                reader[operand] = node
    while stack in reader:
        node = reader[stack]
        place = node.operands.index(stack)
        match node.primitive.name:
            case "loop":
                stack = get(node, place - 1)
            case "cond":
                then = node.params["then"]
                sides = then, node.params["otherwise"]
                part = next(
                    k for k, aval in enumerate(then.output_avals)
                    if isinstance(aval, StackAval) and place - 1 in [_source_in(side, k) for side in sides]
                )  # fmt: skip
                stack = get(node, part)
            case "push":
                stack = node
            case _:
                stack = get(node, 0)
    return stack


def stand_in(node: Node) -> Node:
    """A fresh input of the same aval."""
    return fresh_input(node.aval)
