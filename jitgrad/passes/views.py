"""Where views stand: below arithmetic when they repeat (less to compute), above it otherwise (one shape to loop over)."""

from __future__ import annotations

from ..ir.graph import Graph, with_operands
from ..ir.node import Node, apply, blamed_on, constant_value
from ..ir.primitive import Library, View
from ..ops.shape import broadcast
from .fuel import spend
from .simplify import is_arithmetic, simplify_node


def lift_broadcasts(graph: Graph) -> Graph:
    """f(broadcast(x), broadcast(y), 2) = broadcast(f(x, y, 2)) where all are repeated alike."""
    return graph.rebuild(_lifted)


def _lifted(node: Node) -> Node:
    if not is_arithmetic(node) or not node.shape:
        return node
    smaller = {(o.operands[0].shape, o.params["axes"]) for o in node.operands if _repeats(o)}
    if len(smaller) != 1 or not all(_repeats(o) or constant_value(o) is not None for o in node.operands):
        return node
    if not spend():
        return node
    ((shape, axes),) = smaller
    operands = [o.operands[0] if _repeats(o) else shrunk(o, shape) for o in node.operands]
    return broadcast(apply(node.primitive, *operands, **node.params), node.shape, axes)


def _repeats(node: Node) -> bool:
    return node.primitive.name == "broadcast" and constant_value(node) is None


def shrunk(constant: Node, shape: tuple[int, ...]) -> Node:
    """The constant that `constant` is everywhere, over `shape`."""
    while constant.operands:
        constant = constant.operands[0]
    return broadcast(constant, shape, ())


def sink_views(graph: Graph) -> Graph:
    """view(f(x, y)) = f(view(x), view(y)), where f's value is wanted by nobody else.

    Broadcasts stay (work would be repeated), and so do views that a library routine reads: it takes strides, and what
    it reads is in memory anyway.
    """
    users = graph.users()
    outputs = set(graph.outputs)
    chains: dict[Node, tuple[Node, ...]] = {}  # arithmetic node -> the views to apply to its operands instead
    applied: dict[Node, Node] = {}             # outermost view of such a chain -> the node that gets it

    def is_private(node: Node, uses: int = 1) -> bool:
        return len(users[node]) == uses and node not in outputs

    for node in reversed(graph.nodes):  # users first, so that a view travels all the way down
        if is_arithmetic(node) and node in chains:
            for operand in set(node.operands):
                if is_arithmetic(operand) and is_private(operand, node.operands.count(operand)):
                    chains[operand] = chains[node]
        elif isinstance(node.primitive.code, View) and not _read_by_library(users[node]):
            views = _private_views(node, is_private)
            if not (views and is_arithmetic(producer := views[0].operands[0]) and is_private(producer)):
                continue
            if producer not in chains and spend():
                chains[producer], applied[node] = views, producer
    return _rebuilt(graph, chains, applied) if chains else graph


def _read_by_library(users: list[Node]) -> bool:
    return any(isinstance(user.primitive.code, Library) for user in users)


def _private_views(view: Node, is_private) -> tuple[Node, ...]:
    """The views from the one nearest to memory up to `view`, each used by the next alone; none if one is a broadcast."""
    chain = [view]
    while isinstance((inner := chain[0].operands[0]).primitive.code, View) and is_private(inner):
        chain.insert(0, inner)
    return () if any(link.primitive.name == "broadcast" for link in chain) else tuple(chain)


def _rebuilt(graph: Graph, chains: dict[Node, tuple[Node, ...]], applied: dict[Node, Node]) -> Graph:
    """`graph` with the views of `chains` applied to operands instead of results."""
    done: dict[Node, Node] = {}
    inner = {link for producer in applied.values() for link in chains[producer][:-1]}
    for node in graph.nodes:
        chain = chains.get(node)
        if node in inner:  # a link of a chain, read by the next link alone
            continue
        if chain is not None:
            operands = [done[o] if chains.get(o) == chain else _viewed(done[o], chain) for o in node.operands]
            with blamed_on(node.where):
                done[node] = simplify_node(apply(node.primitive, *operands, **node.params))
        elif node in applied:
            done[node] = done[applied[node]]
        else:
            done[node] = with_operands(node, done)
    return Graph(graph.inputs, tuple(done[node] for node in graph.outputs))


def _viewed(node: Node, chain: tuple[Node, ...]) -> Node:
    for view in chain:
        node = simplify_node(apply(view.primitive, node, **view.params))
    return node
