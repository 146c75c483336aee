"""Sums with places, inside of loops, become stores: what is added to a part of an array touches that part only.

    x + place(v)    ->  put(x, x[part] + v)         (x + 0 = x but for the sign of zero)

In a loop's body the array mostly is a cotangent that nobody reads any more, so that the store is done in place.
"""

from __future__ import annotations

from ..ir.body import close, is_constant
from ..ir.control import INDEX, get
from ..ir.graph import Graph, with_operands
from ..ir.node import Node, apply, blamed_on, call, constant, fresh_input
from ..ops.shape import strided_slice
from ..ops.stores import put
from .fuel import spend
from .simplify import rule


def store_places(graph: Graph) -> Graph:
    def rewrite(node: Node) -> Node:
        if node.primitive.name != "add" or node.dtype.kind not in "fc" or not node.shape:
            return node
        whole, part = node.operands
        if whole.primitive.name == "place" and part.primitive.name != "place":
            whole, part = part, whole
        if part.primitive.name != "place" or whole.primitive.name == "place" or not spend():
            return node
        (value,) = part.operands
        starts, steps = part.params["starts"], part.params["steps"]
        return put(whole, strided_slice(whole, starts, value.shape, steps) + value, starts, steps)

    return graph.rebuild(rewrite)


def _region(node: Node, value: Node) -> tuple:
    return node.params["starts"], value.shape, node.params["steps"]


@rule("put")
def store_over_store(node: Node) -> Node | None:
    """put(put(x, v), w) at one region is put(x, w)."""
    inner, value = node.operands
    if inner.primitive.name == "put" and _region(inner, inner.operands[1]) == _region(node, value):
        return put(inner.operands[0], value, node.params["starts"], node.params["steps"])
    return None


@rule("slice")
def read_what_was_stored(node: Node) -> Node | None:
    """What was put there is there."""
    (inner,) = node.operands
    if inner.primitive.name != "put":
        return None
    value = inner.operands[1]
    same = (node.params["starts"], node.shape, node.params["steps"]) == _region(inner, value)
    return value if same else None


# --- outside of loops


def store_regions(graph: Graph) -> Graph:
    """Chains of stores outside of loops as loops of one step: there they are done in place, one after another, where each
    alone would copy the array. Versions that are read in between end a chain."""
    if not any(_is_store(node) for node in graph.nodes):
        return graph
    users = graph.users()
    outputs = set(graph.outputs)
    inner = {
        node for node in graph.nodes
        if _is_store(node) and node not in outputs and len(users[node]) == 1
        and _is_store(users[node][0]) and users[node][0].operands[0] is node and node not in users[node][0].operands[1:]
    }  # fmt: skip
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        if not _is_store(node):
            done[node] = with_operands(node, done)
        elif node not in inner and spend():
            with blamed_on(node.where):
                done[node] = _one_step(_chain(node, inner), done)
        else:
            done[node] = with_operands(node, done)
    return Graph(graph.inputs, tuple(done[node] for node in graph.outputs))


def _is_store(node: Node) -> bool:
    """Whether it stores at one place, or in a region that is known."""
    return node.primitive.name == "put" or (node.primitive.name == "scatter_set" and node.operands[2].aval.shape == ())


def _chain(last: Node, inner: set[Node]) -> list[Node]:
    """The stores that end in `last`, the first first."""
    chain = [last]
    while chain[-1].operands[0] in inner:
        chain.append(chain[-1].operands[0])
    return chain[::-1]


def _one_step(chain: list[Node], done: dict[Node, Node]) -> Node:
    """A loop of one step that does the stores."""
    array = done[chain[0].operands[0]]
    carry, counter = fresh_input(array.aval), fresh_input(INDEX)
    state = carry
    captured: dict[Node, Node] = {}
    for store in chain:
        operands = []
        for operand in store.operands[1:]:
            outside = done[operand]
            if is_constant(outside):
                operands.append(outside)
            else:
                operands.append(captured.setdefault(outside, fresh_input(outside.aval)))
        state = apply(store.primitive, state, *operands, **store.params)
    body = close([counter, carry, *captured.values()], [state])
    loop = call("loop", constant(1, INDEX.dtype), array, *captured, body=body, test=None, carries=1)
    return get(loop, 0)
