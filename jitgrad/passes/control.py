"""Loops and branches: results that nobody reads go, work that is the same at each step leaves the loop, and bodies get the
passes of any graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..ir.body import Body, close, exchanged, is_constant
from ..ir.control import Loop, get
from ..ir.graph import Graph, with_operands
from ..ir.node import INPUT, Node, apply, blamed_on
from ..ir.primitive import Control, Structure, View
from .fuel import spend

MAY_FAIL = {"gather", "scatter_add", "scatter_set"}  # and so is not computed for nothing


# --- what nobody reads


def prune(graph: Graph) -> Graph:
    """`graph` without results of loops and branches that nobody reads, in bodies too."""
    if not any(isinstance(node.primitive.code, Control) for node in graph.nodes):
        return graph
    read: dict[Node, set[int]] = {}
    for node in graph.nodes:
        if node.primitive.name == "get":
            read.setdefault(node.operands[0], set()).add(node.params["part"])
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        if isinstance(node.primitive.code, Control):
            with blamed_on(node.where):
                narrow = _narrow_loop if node.primitive.name == "loop" else _narrow_branch
                done[node], places = narrow(with_operands(node, done), read.get(node, set()))
            for reader in graph.nodes:
                if reader.primitive.name == "get" and reader.operands[0] is node:
                    done[reader] = get(done[node], places[reader.params["part"]])
        elif node not in done:
            done[node] = with_operands(node, done)
    return Graph(graph.inputs, tuple(done[node] for node in graph.outputs))


def _narrow_branch(node: Node, read: set[int]) -> tuple[Node, dict[int, int]]:
    """The branch with only those results, and where they are now."""
    kept = sorted(read)
    places = {part: place for place, part in enumerate(kept)}
    sides = []
    for key in ("then", "otherwise"):
        body = node.params[key].graph
        sides.append(prune(Graph(body.inputs, tuple(body.outputs[part] for part in kept))))
    used = [k for k in range(len(node.operands) - 1) if any(side.inputs[k] in side.nodes for side in sides)]
    if len(used) + 1 == len(node.operands) and len(kept) == len(node.aval.parts):  # type: ignore[attr-defined]
        inner = [Body(side) for side in sides]
    else:
        inner = [Body(Graph(tuple(side.inputs[k] for k in used), side.outputs)) for side in sides]
    operands = [node.operands[0], *(node.operands[1 + k] for k in used)]
    return apply(node.primitive, *operands, then=inner[0], otherwise=inner[1]), places


def _narrow_loop(node: Node, read: set[int]) -> tuple[Node, dict[int, int]]:
    """The loop with only those results, and the carries that they need."""
    loop = Loop(node)
    inputs, results = loop.body.graph.inputs, loop.body.graph.outputs
    test = None if loop.test is None else prune(loop.test.graph)
    kept = {part for part in read if part < loop.carries}
    if test is not None:
        kept |= {k for k in range(loop.carries) if test.inputs[1 + k] in test.nodes}
    while True:
        body = prune(Graph(inputs, tuple(results[k] for k in sorted(kept))))
        needed = {k for k in range(loop.carries) if inputs[1 + k] in body.nodes} | kept
        if needed == kept:
            break
        kept = needed
    order = sorted(kept)
    captured = [
        m for m in range(len(loop.captured))
        if inputs[1 + loop.carries + m] in body.nodes or (test and test.inputs[1 + loop.carries + m] in test.nodes)
    ]  # fmt: skip

    def chosen(given: tuple[Node, ...]) -> tuple[Node, ...]:
        return (given[0], *(given[1 + k] for k in order), *(given[1 + loop.carries + m] for m in captured))

    operands = [*(loop.init[k] for k in order), *(loop.captured[m] for m in captured)]
    narrow = apply(
        node.primitive,
        loop.trip,
        *operands,
        body=Body(Graph(chosen(inputs), body.outputs)),
        test=None if test is None else Body(Graph(chosen(test.inputs), test.outputs)),
        carries=len(order),
    )
    return narrow, {part: place for place, part in enumerate(order)} | {loop.carries: len(order)}


# --- what is the same at each step


def hoist(graph: Graph) -> Graph:
    """`graph` with work that no step of a loop changes done before the loop."""
    return _in_bodies(graph, hoist, _without_invariants)


def _without_invariants(node: Node) -> Node:
    """A loop whose body no longer computes what only depends on what is captured."""
    if node.primitive.name != "loop":
        return node
    loop = Loop(node)
    body = loop.body.graph
    fixed = set(body.inputs[1 + loop.carries :])
    same = set(fixed)
    for item in body.nodes:
        reads_the_same = item.operands and all(o in same or is_constant(o) for o in item.operands)
        if reads_the_same and _may_leave(item) and not is_constant(item):
            same.add(item)
    found = _edge(body, same, fixed)
    if not found or not spend():
        return node
    outside = dict(zip(body.inputs[1 + loop.carries :], loop.captured, strict=True))
    moved = exchanged(found, outside)
    new_body = close([*body.inputs, *found], body.outputs)
    test = None
    if loop.test is not None:
        unread = new_body.graph.inputs[len(body.inputs) :]
        test = Body(Graph((*loop.test.graph.inputs, *unread), loop.test.graph.outputs))
    return apply(node.primitive, *node.operands, *moved, body=new_body, test=test, carries=loop.carries)


def _may_leave(node: Node) -> bool:
    code = node.primitive.code
    return node.primitive.name not in MAY_FAIL and not isinstance(code, Control | Structure)


def _edge(body: Graph, same: set[Node], fixed: set[Node]) -> list[Node]:
    """The nodes of `same` that others read, those worth moving: not inputs, nor mere views of them."""
    outputs = set(body.outputs)
    read: dict[Node, None] = {}
    for node in body.nodes:
        if node not in same:
            read.update(dict.fromkeys(o for o in node.operands if o in same))
    read.update(dict.fromkeys(node for node in outputs if node in same))
    return [node for node in read if node not in fixed and not _is_view_of_input(node)]


def _is_view_of_input(node: Node) -> bool:
    while isinstance(node.primitive.code, View):
        node = node.operands[0]
    return node.primitive is INPUT


# --- passes inside of bodies


def optimize_bodies(optimize: Callable[[Graph], Graph]) -> Callable[[Graph], Graph]:
    """The pass that lets `optimize` work on every body."""

    def inside(graph: Graph) -> Graph:
        return _in_bodies(graph, optimize, lambda node: node)

    return inside


def _in_bodies(graph: Graph, change: Callable[[Graph], Graph], finish: Callable[[Node], Node]) -> Graph:
    """`graph` with `change` done to the bodies of its loops and branches, then `finish` to these."""
    if not any(isinstance(node.primitive.code, Control) for node in graph.nodes):
        return graph

    def rewrite(node: Node) -> Node:
        if not isinstance(node.primitive.code, Control):
            return node
        params = {key: Body(change(value.graph)) if isinstance(value, Body) else value for key, value in node.params.items()}
        return finish(apply(node.primitive, *node.operands, **params))

    return graph.rebuild(rewrite)


def bodies_of(graph: Graph) -> Iterable[Graph]:
    """The graphs of all loops and branches inside, at any depth."""
    for node in graph.nodes:
        for value in node.params.values():
            if isinstance(value, Body):
                yield value.graph
                yield from bodies_of(value.graph)
