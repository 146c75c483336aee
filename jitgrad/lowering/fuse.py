"""Which node is computed in which kernel.

A *home* is a place where nodes are computed together: a level (when its operands are in memory), a domain (the
extents its loops run over) and a part (big homes are cut). Everything of one level depends on lower levels only, so a
home can hold any nodes of one level and domain without a cycle, siblings included.

Homes are found in two walks. Forward: the lowest level of each node. Backward: the homes in which a node's value is
wanted. Wanted in one home, it is computed there and never stored; wanted in several, it is recomputed where that is
cheap, else stored in the earliest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ..ir.graph import Graph
from ..ir.node import Node, constant_value
from ..ir.primitive import Control, Gather, Index, Leaf, Library, Place, Reduce, Scalar, ScatterAdd, Structure, View
from ..ops.cast import COPY
from .access import view_base

RECOMPUTE_COST = 6        # additions that are cheaper than a store and a load of a whole array
HOISTED_COST = 48         # additions worth repeating in every kernel that reads a smaller value by broadcast
LARGEST_BODY = 320        # nodes in one kernel: LLVM's time grows faster than its input beyond some hundreds
MOST_ARRAYS = 48          # arrays that one kernel reads: more would differ from kernel to kernel, and share no code
MOST_COPIES = 8           # pieces of an array that one kernel copies
_SATURATED = 1 << 20


class Home(NamedTuple):
    level: int
    domain: tuple[int, ...]
    part: int = 0

    @property
    def time(self) -> tuple[int, int]:
        """Homes run in the order of their times."""
        return self.level, self.part


@dataclass
class Fusion:
    """The decisions for one graph.

    stored     computed nodes whose value goes to memory -> the home that stores it
    computed   home -> nodes evaluated there, operands first (a recomputed node is in several homes)
    folds      home -> the reductions over its domain
    pieces     home -> (piece, the node it is a part of, operand index) to be stored there
    scatters   home -> scatter-additions of values over its domain
    heirs      a computed array that a scatter-addition alone reads -> the scatter, in whose buffer it is made
    level      of each node: the level of the kernel or routine that computes it; 0 for leaves
    """

    graph: Graph
    stored: dict[Node, Home] = field(default_factory=dict)
    computed: dict[Home, list[Node]] = field(default_factory=dict)
    folds: dict[Home, list[Node]] = field(default_factory=dict)
    level: dict[Node, int] = field(default_factory=dict)
    pieces: dict[Home, list[tuple[Node, Node, int]]] = field(default_factory=dict)  # (piece, place node, operand index)
    scatters: dict[Home, list[Node]] = field(default_factory=dict)
    heirs: dict[Node, Node] = field(default_factory=dict)

    @property
    def homes(self) -> set[Home]:
        return {*self.computed, *self.folds, *self.pieces, *self.scatters}


def is_elementwise(node: Node) -> bool:
    """Whether a kernel evaluates `node` place by place."""
    return isinstance(node.primitive.code, Scalar | Index | Gather)


def fuse(graph: Graph) -> Fusion:
    """The homes of `graph`, whose views must all be strided (see `lowering.legalize`)."""
    return _Fuser(graph).run()


class _Fuser:
    def __init__(self, graph: Graph):
        self.graph, self.fusion = graph, Fusion(graph, heirs=_heirs(graph))
        self.level = self.fusion.level
        self.cost: dict[Node, int] = {}
        self.streams: dict[Node, frozenset] = {}
        self.must_store = self._must_store()
        self.wanted: dict[Node, set[Home]] = {}

    def run(self) -> Fusion:
        for node in self.graph.nodes:
            self.level[node] = self._level(node)
            self._estimate(node)
        for output in self.graph.outputs:
            self._want_in_memory(output)
        for node in reversed(self.graph.nodes):
            self._settle(node)
        self._cut_big_homes()
        return self.fusion

    def _must_store(self) -> set[Node]:
        """Elementwise nodes that something reads from memory whatever happens."""
        readers: set[Node] = set(self.graph.outputs)
        for node in self.graph.nodes:
            code = node.primitive.code
            if isinstance(code, Library | Gather | Control):
                readers.update(view_base(operand) for operand in node.operands)
            elif isinstance(code, ScatterAdd):
                stored = node.operands[:1] if adds_rows(node) else node.operands
                readers.update(view_base(operand) for operand in stored)
            elif isinstance(code, View) and not is_hoistable_view(node):
                readers.add(view_base(node))
            elif node.primitive is COPY:
                readers.add(node)
        return {node for node in readers if is_elementwise(node)}

    # --- forward: levels and costs

    def _level(self, node: Node) -> int:
        """Elementwise: the level of its kernel. Otherwise: the level at which it is computed or, for leaves, 0."""
        code = node.primitive.code
        if isinstance(code, Leaf):
            return 0
        if isinstance(code, View):
            return self._read_level(node)
        if isinstance(code, Structure) and node.operands:
            return self.level[node.operands[0]]  # there when the loop is done
        if isinstance(code, Scalar | Index | Reduce):
            return max((self._read_level(operand) for operand in node.operands), default=0)
        if isinstance(code, Place):
            return max(self.piece_level(operand) for operand in node.operands)
        if isinstance(code, ScatterAdd):
            base, *rest = node.operands
            # What another addition makes in the same buffer need not be complete.
            same = isinstance(base.primitive.code, ScatterAdd) and base in self.fusion.heirs
            ready = self.level[base] if same else self.available(base)
            return max(ready, *(self._read_level(operand) for operand in rest))
        return max((self.available(operand) for operand in node.operands), default=0)

    def _read_level(self, operand: Node) -> int:
        """The first level of a kernel that reads `operand` directly: in a register or from memory."""
        if is_elementwise(operand):
            return self.level[operand]
        if isinstance(operand.primitive.code, View):
            base = view_base(operand)
            if is_hoistable_view(operand) and is_elementwise(base) and self._hoistable(base):
                return self.level[base]
        return self.available(operand)

    def _hoistable(self, base: Node) -> bool:
        return base not in self.must_store and self.cost[base] <= HOISTED_COST

    def available(self, node: Node) -> int:
        """The first level at which `node` is in memory."""
        base = view_base(node)
        return 0 if isinstance(base.primitive.code, Leaf) else self.level[base] + 1

    def piece_level(self, piece: Node) -> int:
        """The level of the kernel that stores `piece` into the array it is part of."""
        return self.level[piece] if is_elementwise(piece) else self.available(piece)

    def _estimate(self, node: Node) -> None:
        """The cost of computing an elementwise node from memory, and the whole arrays that it reads."""
        if not is_elementwise(node):
            self.cost[node] = 0
            base = view_base(node)
            hoisted = isinstance(node.primitive.code, View) and is_hoistable_view(node)
            if hoisted and is_elementwise(base):
                self.cost[node], self.streams[node] = self.cost[base], self.streams[base]
            else:
                self.streams[node] = frozenset() if base.primitive.name == "constant" else frozenset((base,))
            return
        own = node.primitive.code.cost if isinstance(node.primitive.code, Scalar) else 2
        self.cost[node] = min(_SATURATED, own + sum(self.cost[operand] for operand in set(node.operands)))
        streams = frozenset().union(*(self.streams[operand] for operand in node.operands))
        self.streams[node] = streams if len(streams) <= 8 else frozenset((node,))

    # --- backward: homes

    def _want_in_memory(self, node: Node) -> None:
        base = view_base(node)
        if is_elementwise(base):
            self.wanted.setdefault(base, set()).add(Home(self.level[base], base.shape))

    def _want(self, operand: Node, home: Home) -> None:
        """A kernel at `home` reads `operand`."""
        if is_elementwise(operand):
            self.wanted.setdefault(operand, set()).add(home)
        elif isinstance(operand.primitive.code, View):
            base = view_base(operand)
            if is_elementwise(base):
                if is_hoistable_view(operand) and self._hoistable(base):
                    self.wanted.setdefault(base, set()).add(home)
                else:
                    self._want_in_memory(base)

    def _settle(self, node: Node) -> None:
        """Decides about `node`, all of whose users are settled, and passes the wish on to its operands."""
        code = node.primitive.code
        if is_elementwise(node):
            self._settle_elementwise(node)
        elif isinstance(code, Reduce):
            home = Home(self.level[node], node.operands[0].shape)
            self.fusion.folds.setdefault(home, []).append(node)
            self._want(node.operands[0], home)
        elif isinstance(code, Place):
            for index, piece in enumerate(node.operands):
                home = Home(self.piece_level(piece), piece.shape)
                self.fusion.pieces.setdefault(home, []).append((piece, node, index))
                self._want(piece, home)
        elif isinstance(code, ScatterAdd):
            base, values, *indices = node.operands
            home = Home(self.level[node], values.shape)
            self.fusion.scatters.setdefault(home, []).append(node)
            self._want_in_memory(base)
            for operand in (values, *indices):
                self._want(operand, home)
        elif isinstance(code, Library | Control):
            for operand in node.operands:
                self._want_in_memory(operand)

    def _settle_elementwise(self, node: Node) -> None:
        homes = self.wanted.get(node)
        if not homes:
            return
        if node in self.must_store:
            own = Home(self.level[node], node.shape)
            stored_at = own
        elif len(homes) == 1 or self._is_cheap(node):
            stored_at = None
        else:
            same = [home for home in homes if home.domain == node.shape]
            stored_at = min(same) if same else Home(self.level[node], node.shape)
        if stored_at is not None:
            self.fusion.stored[node] = stored_at
            homes = {home for home in homes if home.level <= stored_at.level} | {stored_at}
        for home in homes:
            self.fusion.computed.setdefault(home, []).append(node)
            for operand in self._operands_read(node):
                self._want(operand, home)

    def _operands_read(self, node: Node):
        if isinstance(node.primitive.code, Gather):
            for operand in node.operands:
                self._want_in_memory(operand)
            return ()
        return node.operands

    def _is_cheap(self, node: Node) -> bool:
        whole = [stream for stream in self.streams[node] if stream.aval.size >= max(2, node.aval.size // 2)]
        return self.cost[node] <= RECOMPUTE_COST and len(whole) <= 1

    # --- big homes are cut into parts; what crosses a cut is stored

    def _cut_big_homes(self) -> None:
        position = {node: index for index, node in enumerate(self.graph.nodes)}
        for home in list(self.fusion.computed):
            nodes = sorted(self.fusion.computed[home], key=position.__getitem__)
            self.fusion.computed[home] = nodes
            parts = self._parts(nodes)
            if len(parts) > 1:
                self._cut(home, parts)
        for home in list(self.fusion.pieces):
            self._spread_pieces(home)

    def _parts(self, nodes: list[Node]) -> list[list[Node]]:
        """`nodes` in runs of few enough nodes that read few enough arrays."""
        inside = set(nodes)
        parts: list[list[Node]] = [[]]
        arrays: set[Node] = set()
        for node in nodes:
            reads = {operand for operand in node.operands if operand not in inside and constant_value(operand) is None}
            if len(parts[-1]) >= LARGEST_BODY or (parts[-1] and len(arrays | reads) > MOST_ARRAYS):
                parts.append([])
                arrays = set()
            arrays |= reads
            parts[-1].append(node)
        return parts

    def _cut(self, home: Home, parts: list[list[Node]]) -> None:
        fusion = self.fusion
        where = {node: home._replace(part=index) for index, part in enumerate(parts) for node in part}
        del fusion.computed[home]
        for index, part in enumerate(parts):
            fusion.computed[home._replace(part=index)] = part
        for node in where:
            for operand in node.operands:
                base = view_base(operand)
                if where.get(base, where[node]) != where[node] and base.shape == home.domain:
                    fusion.stored.setdefault(base, where[base])
        for node in where:
            if fusion.stored.get(node) == home:
                fusion.stored[node] = where[node]
        self._move(fusion.folds, home, lambda fold: where.get(view_base(fold.operands[0])))
        self._move(fusion.pieces, home, lambda piece: where.get(view_base(piece[0])))
        self._move(fusion.scatters, home, lambda scatter: where.get(view_base(scatter.operands[1])))

    def _spread_pieces(self, home: Home) -> None:
        """Many pieces that are only copied are copied by several kernels, which are all alike."""
        evaluated = set(self.fusion.computed.get(home, ()))
        pieces = self.fusion.pieces[home]
        copied = [piece for piece in pieces if piece[0] not in evaluated]
        if len(copied) <= MOST_COPIES:
            return
        self.fusion.pieces[home] = [piece for piece in pieces if piece[0] in evaluated]
        for index, piece in enumerate(copied):
            part = home._replace(part=home.part + index // MOST_COPIES)
            self.fusion.pieces.setdefault(part, []).append(piece)

    @staticmethod
    def _move(table: dict[Home, list], home: Home, where) -> None:
        """Entries of `home` go to the part that evaluates what they read (the first part when none does)."""
        for entry in table.pop(home, []):
            table.setdefault(where(entry) or home, []).append(entry)


def _heirs(graph: Graph) -> dict[Node, Node]:
    """See `Fusion.heirs`."""
    users = graph.users()
    heirs: dict[Node, Node] = {}
    for node in reversed(graph.nodes):  # so that a chain of additions ends in one buffer
        if isinstance(node.primitive.code, ScatterAdd):
            base = node.operands[0]
            if users[base] == [node] and base not in graph.outputs and not isinstance(base.primitive.code, Leaf | View):
                heirs[base] = heirs.get(node, node)
    return heirs


def adds_rows(scatter: Node) -> bool:
    """Whether a scatter-addition adds whole rows, so that lanes never meet at one element: its values may be computed
    where they are added. Single elements are added one by one, in a kernel that does nothing else."""
    return scatter.operands[1].ndim > scatter.operands[2].ndim


def is_hoistable_view(view: Node) -> bool:
    """A single broadcast of a value along trailing axes: the value can be computed once per pass of the inner loops."""
    return (
        view.primitive.name == "broadcast"
        and not isinstance(view.operands[0].primitive.code, View)
        and view.params["axes"] == tuple(range(len(view.params["axes"])))
        and all(view.shape[k] == extent for k, extent in enumerate(view.operands[0].shape))
    )
