"""Short axes that are summed over are taken apart: a sum over three coordinates becomes x + y + z.

As a loop, an axis of a few elements is the worst there is: it fills no vector, and its sum ends what a kernel can do in
one go. Taken apart, the differences of a pairwise energy, (n, n, 3), or the distances of points from components,
(n, k, d), are plain arithmetic over (n, n) or (n, k): the adjoint too, so that all of it may share one sweep.

An axis is followed through arithmetic, views and sums over other axes. What has it is computed once for each place
along it; where the whole array is wanted, the pieces are put together. The number of places becomes part of the
kernel's structure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from math import prod

from ..ir.aval import aval_of
from ..ir.graph import Graph, with_operands
from ..ir.node import Node, apply, blamed_on, call, constant_value, full
from ..ir.primitive import Index, Reduce, View
from ..ops.shape import assemble, broadcast, iota, reshape, slice_axis, transpose
from .fuel import spend
from .simplify import is_arithmetic, simplify_node
from .views import shrunk

LONGEST = 8           # places of an axis that is taken apart
FEWEST = 64           # elements beside them in the largest array, below which there is nothing to gain
LARGEST_GROWTH = 192  # operations that an axis may become

Place = tuple[Node, int]  # a node and one of its axes

_PAIRWISE = {
    "reduce_sum": "add",
    "reduce_prod": "multiply",
    "reduce_max": "maximum",
    "reduce_min": "minimum",
}


def split_short_axes(graph: Graph) -> Graph:
    """All axes worth it, those that share no array at once; again until none is left."""
    while axes := _chosen_axes(graph):
        graph = _Split(graph, axes).run()
    return graph


# --- which axes


@dataclass(frozen=True)
class _Axis:
    """A node's axis that is taken apart; `largest` is the size of the largest array that has it."""

    number: int
    extent: int
    largest: int


def _chosen_axes(graph: Graph) -> dict[Node, _Axis]:
    """For each node that has an axis worth taking apart, that axis (one of them)."""
    summed = [
        (node.operands[0], axis)
        for node in graph.nodes
        if isinstance(node.primitive.code, Reduce) and node.primitive.name in _PAIRWISE
        for axis in node.params["axes"]
    ]
    summed = [place for place in summed if _is_short(place)]
    chosen: dict[Node, _Axis] = {}
    if not summed:
        return chosen
    groups = _Groups()
    for node in graph.nodes:
        for axis, place in _same_axes(node):
            groups.join((node, axis), place)
    for members in groups.of(summed):
        axes = dict(members)
        if len(axes) == len(members) and chosen.keys().isdisjoint(axes) and _pays(members) and spend():
            largest = max(node.aval.size for node in axes)
            chosen |= {node: _Axis(axis, node.shape[axis], largest) for node, axis in members}
    return chosen


def _is_short(place: Place) -> bool:
    node, axis = place
    return 1 < node.shape[axis] <= LONGEST


def _pays(members: list[Place]) -> bool:
    (node, axis), *_ = members
    extent = node.shape[axis]
    computed = sum(is_arithmetic(node) for node, _ in members)
    return computed * extent <= LARGEST_GROWTH and max(node.aval.size for node, _ in members) // extent >= FEWEST


class _Groups:
    """Places known to be one axis (a union of sets)."""

    def __init__(self):
        self._parent: dict[Place, Place] = {}
        self._members: dict[Place, list[Place]] = {}

    def root(self, place: Place) -> Place:
        while (parent := self._parent.get(place, place)) != place:
            place = parent
        return place

    def of(self, places: Iterable[Place]) -> list[list[Place]]:
        """The members of the groups that `places` are in."""
        return [self._of_root(root) for root in dict.fromkeys(map(self.root, places))]

    def _of_root(self, root: Place) -> list[Place]:
        return self._members.get(root, [root])

    def join(self, one: Place, other: Place) -> None:
        a, b = self.root(one), self.root(other)
        if a == b:
            return
        one_group, other_group = self._of_root(a), self._of_root(b)
        if len(one_group) < len(other_group):
            a, b, one_group, other_group = b, a, other_group, one_group
        one_group.extend(other_group)
        self._members[a] = one_group
        self._members.pop(b, None)
        self._parent[b] = a


def _same_axes(node: Node) -> Iterable[tuple[int, Place]]:
    """(axis of `node`, (operand, its axis)) wherever one is the other."""
    if is_arithmetic(node):
        for operand in node.operands:
            if constant_value(operand) is None:
                yield from ((axis, (operand, axis)) for axis in range(node.ndim))
        return
    if not node.operands:
        return
    operand = node.operands[0]
    match node.primitive.name:
        case "broadcast" if constant_value(node) is None:
            for k, axis in enumerate(node.params["axes"]):
                if operand.shape[k] == node.shape[axis]:
                    yield axis, (operand, k)
        case "transpose":
            yield from ((k, (operand, axis)) for k, axis in enumerate(node.params["axes"]))
        case "reshape":
            yield from ((axis, (operand, inner)) for axis, inner in _kept_by_reshape(operand.shape, node.shape))
        case _ if isinstance(node.primitive.code, Reduce):
            kept = [axis for axis in range(operand.ndim) if axis not in node.params["axes"]]
            yield from ((k, (operand, axis)) for k, axis in enumerate(kept))


def _kept_by_reshape(before: tuple[int, ...], after: tuple[int, ...]) -> Iterable[tuple[int, int]]:
    """(new axis, old axis) where a reshape leaves an axis as it is: as long, with as many elements before it."""
    places = {(prod(before[:k]), extent): k for k, extent in enumerate(before) if extent > 1}
    for axis, extent in enumerate(after):
        if extent > 1 and (found := places.get((prod(after[:axis]), extent))) is not None:
            yield axis, found


# --- taking one apart


class _Split:
    """`graph` with axes taken apart: `axes` says which of each node."""

    def __init__(self, graph: Graph, axes: dict[Node, _Axis]):
        self.graph = graph
        self.taken = axes
        self.axes = {node: axis.number for node, axis in axes.items()}
        self.whole: dict[Node, Node] = {}
        self.pieces: dict[Node, list[Node]] = {}

    def run(self) -> Graph:
        remade = self._remade_whole()
        for node in self.graph.nodes:
            with blamed_on(node.where):
                if node in self.axes and self._is_computed(node):
                    self.pieces[node] = [simplify_node(self._piece(node, k)) for k in range(node.shape[self.axes[node]])]
                elif self._is_summed(node):
                    self.whole[node] = self._combined(node)
                if node in remade or (node not in self.pieces and node not in self.whole):
                    self.whole[node] = with_operands(node, {o: self._whole(o) for o in node.operands})
        return Graph(self.graph.inputs, tuple(self._whole(output) for output in self.graph.outputs))

    def _remade_whole(self) -> set[Node]:
        """The nodes of which the whole array is wanted, and which are not put together from pieces: views, and the
        largest arrays, which are better written in the order in which they lie."""
        wanted = set(self.graph.outputs)
        remade: set[Node] = set()
        for node in reversed(self.graph.nodes):
            if node in self.axes and self._is_computed(node):
                as_large = isinstance(node.primitive.code, View) or node.aval.size == self.taken[node].largest
                if node not in wanted or not as_large or isinstance(node.primitive.code, Reduce):
                    continue
                remade.add(node)
                wanted.update(node.operands)
            elif not self._is_summed(node):
                wanted.update(node.operands)
        return remade

    def _is_summed(self, node: Node) -> bool:
        """Whether `node` folds over the axis, in a way that can be done pairwise."""
        if node.primitive.name not in _PAIRWISE or node.operands[0] not in self.axes:
            return False
        return self.axes[node.operands[0]] in node.params["axes"]

    def _is_computed(self, node: Node) -> bool:
        """Whether the pieces of `node` come from pieces; otherwise they are cut out of it."""
        if not node.operands:
            return False
        axis = self.axes[node]
        return node.primitive.name == "broadcast" or any(axis == own for own, _ in _same_axes(node))

    def _whole(self, node: Node) -> Node:
        if node not in self.whole:
            axis, pieces = self.axes[node], self.pieces[node]
            row = (*node.shape[:axis], 1, *node.shape[axis + 1 :])
            corners = [(tuple(k if a == axis else 0 for a in range(node.ndim)), (1,) * node.ndim) for k in range(len(pieces))]
            self.whole[node] = assemble([reshape(piece, row) for piece in pieces], node.shape, corners)
        return self.whole[node]

    def _cut(self, node: Node, k: int) -> Node:
        """Place k of `node`."""
        if node in self.pieces:
            return self.pieces[node][k]
        axis = self.axes[node]
        known = constant_value(node)
        if known is not None:
            return full(known, aval_of(_without(node, axis), node.dtype))
        if isinstance(node.primitive.code, Index):
            return _counted(node, axis, k)
        cut = slice_axis(self._whole(node), axis, k, 1)
        return simplify_node(reshape(cut, _without(node, axis)))

    def _piece(self, node: Node, k: int) -> Node:
        axis, shape = self.axes[node], _without(node, self.axes[node])
        if is_arithmetic(node):
            operands = [self._cut(o, k) if o in self.axes else shrunk(o, shape) for o in node.operands]
            return apply(node.primitive, *operands, **node.params)
        (operand,) = node.operands
        if operand not in self.axes:  # a broadcast along the axis
            axes = [a - (a > axis) for a in node.params["axes"] if a != axis]
            kept = [e for e, a in zip(operand.shape, node.params["axes"], strict=True) if a != axis]
            return broadcast(reshape(self._whole(operand), kept), shape, axes)
        piece, inner = self._cut(operand, k), self.axes[operand]
        match node.primitive.name:
            case "broadcast":
                return broadcast(piece, shape, [a - (a > axis) for a in node.params["axes"] if a != axis])
            case "transpose":
                return transpose(piece, [a - (a > inner) for a in node.params["axes"] if a != inner])
            case "reshape":
                return reshape(piece, shape)
        return call(node.primitive.name, piece, axes=tuple(a - (a > inner) for a in node.params["axes"]))

    def _combined(self, node: Node) -> Node:
        """The fold of `node` over the axis, and then over what other axes it goes over."""
        (operand,) = node.operands
        inner = self.axes[operand]
        pieces = [self._cut(operand, k) for k in range(operand.shape[inner])]
        total = reduce(lambda x, y: simplify_node(call(_PAIRWISE[node.primitive.name], x, y)), pieces)
        rest = tuple(a - (a > inner) for a in node.params["axes"] if a != inner)
        return call(node.primitive.name, total, axes=rest) if rest else total


def _counted(node: Node, axis: int, k: int) -> Node:
    """Place k along `axis` of an array of indices."""
    along, dtype = node.params["axis"], node.params["dtype"]
    shape = _without(node, axis)
    if along == axis:
        return full(k, aval_of(shape, dtype))
    return iota(shape, along - (along > axis), dtype)


def _without(node: Node, axis: int) -> tuple[int, ...]:
    return (*node.shape[:axis], *node.shape[axis + 1 :])
