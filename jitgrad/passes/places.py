"""Sums of places become one array that holds them all.

Every read of a part of an array (`x[0]`, `x[1:]`, a row of it in an unrolled loop) sends back its cotangent in zeros
of the whole array's size, and reverse mode adds them up: n reads of n elements would be n^2 additions of mostly zeros.
Places of one region are added there; places that do not overlap are stored side by side.

x + 0 = x but for the sign of zero, and the terms of a sum change their order: that is all that changes.
"""

from __future__ import annotations

from ..ir.graph import Graph, with_operands
from ..ir.node import Node, blamed_on
from ..ops.shape import assemble
from .fuel import spend

Region = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # starts, steps, counts


def join_places(graph: Graph) -> Graph:
    users = graph.users()
    outputs = set(graph.outputs)

    def is_inner(node: Node) -> bool:
        """Whether `node` is a sum or a place that only a larger sum reads."""
        return len(users[node]) == 1 and node not in outputs and users[node][0].primitive.name == "add"

    joined: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        if node.primitive.name == "add" and node.dtype.kind in "fc" and not is_inner(node):
            terms = _terms(node, is_inner)
            if _worthwhile(terms, is_inner):
                joined[node] = terms
    return _rebuilt(graph, joined, is_inner) if joined else graph


def _terms(root: Node, is_inner) -> list[Node]:
    """What a tree of additions adds up, first to last."""
    terms, pending = [], list(reversed(root.operands))
    while pending:
        node = pending.pop()
        if node.primitive.name == "add" and is_inner(node):
            pending.extend(reversed(node.operands))
        else:
            terms.append(node)
    return terms


def _worthwhile(terms: list[Node], is_inner) -> bool:
    places = [term for term in terms if _is_place(term, is_inner)]
    return len(places) > 1 and _apart({_region(place) for place in places}) and spend()


def _is_place(node: Node, is_inner) -> bool:
    return node.primitive.name == "place" and is_inner(node)


def _region(place: Node) -> Region:
    return place.params["starts"], place.params["steps"], place.operands[0].shape


def _apart(regions: set[Region]) -> bool:
    """Whether no two regions overlap: along one axis they are all apart, or all are single elements."""
    if all(set(counts) <= {1} for *_, counts in regions):
        return len({starts for starts, *_ in regions}) == len(regions)
    return any(_apart_along(axis, regions) for axis in range(len(next(iter(regions))[0])))


def _apart_along(axis: int, regions: set[Region]) -> bool:
    spans = []
    for starts, steps, counts in regions:
        ends = starts[axis], starts[axis] + (counts[axis] - 1) * steps[axis]
        spans.append((min(ends), max(ends)))
    spans.sort()
    return all(before[1] < after[0] for before, after in zip(spans, spans[1:], strict=False))


def _rebuilt(graph: Graph, joined: dict[Node, list[Node]], is_inner) -> Graph:
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        if node in joined:
            with blamed_on(node.where):
                done[node] = _joined(joined[node], done, is_inner)
        else:
            done[node] = with_operands(node, done)
    return Graph(graph.inputs, tuple(done[node] for node in graph.outputs))


def _joined(terms: list[Node], done: dict[Node, Node], is_inner) -> Node:
    """The other terms added up, plus the places in one array."""
    values: dict[Region, Node] = {}
    total: Node | None = None
    for term in terms:
        if _is_place(term, is_inner):
            region, value = _region(term), done[term.operands[0]]
            values[region] = values[region] + value if region in values else value
        else:
            total = done[term] if total is None else total + done[term]
    whole = assemble(list(values.values()), terms[0].shape, [region[:2] for region in values])
    return whole if total is None else total + whole
