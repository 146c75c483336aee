"""One home of the fusion to one kernel and its binding: evaluation on demand, loop order, merging of loops."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from ..config import config
from ..ir.node import CONSTANT, Node
from ..ir.primitive import Gather, Index, View
from ..ops.stores import INTO
from .access import Access, Accesses, contiguous_strides, view_base
from .fuse import Fusion, Home, is_elementwise
from .kernel import ABSENT, STRIDED, UNIT, Array, Binding, Fold, Instruction, Kernel, Store

Map = tuple[int | None, ...]  # for each axis of a node the loop axis that walks it, None for an extent of 1


@dataclass
class _Draft:
    """A kernel over the home's own axes, before loops are ordered and merged. Strides are in elements."""

    extents: tuple[int, ...]
    body: list[tuple]           # (op, operands, params, dtype, axes as a set)
    buffers: list[Node]
    offsets: list[int]
    strides: list[list[int]]
    dtypes: list[np.dtype]
    indexed: list[tuple[tuple[int, int], ...]]
    numbers: list
    stores: list[Store]
    folds: list[tuple[str, int, int, frozenset]]
    pinned: set[int]            # axes whose counters are read: they cannot be merged with others


class KernelBuilder:
    """Builds the kernel of one home. `accesses` finds memory; `fusion` says what is in memory when."""

    def __init__(self, fusion: Fusion, accesses: Accesses, home: Home):
        self.fusion, self.accesses, self.home = fusion, accesses, home
        self.draft = _Draft(home.domain, [], [], [], [], [], [], [], [], [], set())
        self._values: dict = {}
        self._arrays: dict = {}
        self._identity: Map = tuple(range(len(home.domain)))

    def build(self) -> tuple[Kernel, Binding]:
        """The kernel with all stores, folds, pieces and scatter-additions of the home."""
        fusion, home = self.fusion, self.home
        for node in fusion.computed.get(home, ()):
            if fusion.stored.get(node) == home and node.shape == home.domain:
                self._store(node, node, 0, contiguous_strides(node.shape))
        for piece, place, index in fusion.pieces.get(home, ()):
            starts, steps = place.primitive.code.pieces([o.aval for o in place.operands], **place.params)[index]
            whole = contiguous_strides(place.shape)
            offset = sum(start * stride for start, stride in zip(starts, whole, strict=True))
            self._store(piece, place, offset, tuple(a * b for a, b in zip(steps, whole, strict=True)))
        for fold in fusion.folds.get(home, ()):
            self._fold(fold)
        for scatter in fusion.scatters.get(home, ()):
            self._scatter(scatter)
        return finish(self.draft)

    def build_copy(self, source: Node, target: Node) -> tuple[Kernel, Binding]:
        """The kernel that writes `source` into the buffer of `target`."""
        self._store(source, target, 0, contiguous_strides(target.shape))
        return finish(self.draft)

    # --- roots

    def _store(self, node: Node, target: Node, offset: int, strides: tuple[int, ...]) -> None:
        value = self._value(node, self._identity)
        slot = self._array(target, offset, list(strides), node.dtype)
        self.draft.stores.append(Store(value, slot))

    def _fold(self, fold: Node) -> None:
        value = self._value(fold.operands[0], self._identity)
        axes = fold.params["axes"]
        kept = [axis for axis in range(len(self._identity)) if axis not in axes]
        strides = [0] * len(self._identity)
        for axis, stride in zip(kept, contiguous_strides(fold.shape), strict=True):
            strides[axis] = stride
        slot = self._array(fold, 0, strides, fold.dtype)
        self.draft.folds.append((fold.primitive.name, value, slot, frozenset(axes)))

    def _scatter(self, node: Node) -> None:
        """Adds operand 1 into the buffer of `node`, which holds operand 0 already."""
        _, values, *indices = node.operands
        value = self._value(values, self._identity)
        index_map = self._identity[: indices[0].ndim]
        operands = tuple(self._value(index, index_map) for index in indices)
        buffer = self.fusion.heirs.get(node, node)  # additions to one buffer share a slot: they may meet at an element
        whole = Access(buffer, 0, node.shape, contiguous_strides(node.shape))
        slot = self._indexed_array(node, whole, len(indices), index_map)
        self.draft.stores.append(Store(value, slot, operands))

    # --- values, on demand, without recursion (bodies may be deep)

    def _value(self, root: Node, root_map: Map) -> int:
        pending = [(root, root_map)]
        while pending:
            key = pending[-1]
            if key in self._values:
                pending.pop()
                continue
            needs = self._needs(*key)
            missing = [need for need in needs if need not in self._values]
            if missing:
                pending.extend(reversed(missing))
                continue
            self._values[key] = self._emit(*key, [self._values[need] for need in needs])
            pending.pop()
        return self._values[root, root_map]

    def _in_memory(self, node: Node) -> bool:
        stored = self.fusion.stored.get(node)
        return not is_elementwise(node) or (stored is not None and stored.time < self.home.time)

    def _needs(self, node: Node, axes: Map) -> list[tuple[Node, Map]]:
        """What must be evaluated before `node`."""
        code = node.primitive.code
        if isinstance(code, View):
            inner = self._through_broadcasts(node, axes)
            return [] if inner is None else [inner]
        if self._in_memory(node):
            return []
        if isinstance(code, Gather):
            index_map = axes[: node.operands[1].ndim]
            return [(index, index_map) for index in node.operands[1:]]
        return [(operand, axes) for operand in node.operands]

    def _through_broadcasts(self, node: Node, axes: Map) -> tuple[Node, Map] | None:
        """The value under a chain of views, where it is a constant or (under broadcasts) computed in this kernel."""
        if (base := view_base(node)).primitive is CONSTANT:
            return base, ()
        while node.primitive.name == "broadcast":
            inner = node.operands[0]
            axes = tuple(axes[k] if extent != 1 else None for k, extent in zip(node.params["axes"], inner.shape, strict=True))
            node = inner
        return (node, axes) if is_elementwise(node) and not self._in_memory(node) else None

    def _emit(self, node: Node, axes: Map, operands: list[int]) -> int:
        code, draft = node.primitive.code, self.draft
        if isinstance(code, View) and operands:
            return operands[0]
        if node.primitive is CONSTANT:
            return self._constant(node)
        if self._in_memory(node):
            return self._load(self.accesses.strided(node), axes, node.dtype)
        if isinstance(code, Index):
            return self._iota(node, axes[node.params["axis"]])
        if isinstance(code, Gather):
            access = self.accesses.strided(node.operands[0])
            ndim = node.operands[1].ndim
            slot = self._indexed_array(node, access, len(operands), axes[:ndim], axes[ndim:])
            depends = {axis for axis in axes[ndim:] if axis is not None}.union(*(draft.body[o][4] for o in operands))
            return self._instruction("gather", operands, (slot,), node.dtype, depends)
        depends = set().union(*(draft.body[o][4] for o in operands))
        return self._instruction(node.primitive.name, operands, tuple(node.params.items()), node.dtype, depends)

    def _instruction(self, op: str, operands, params: tuple, dtype: np.dtype, axes: set) -> int:
        key = (op, tuple(operands), params, dtype)
        if key not in self._values:
            self._values[key] = len(self.draft.body)
            self.draft.body.append((op, tuple(operands), params, dtype, axes))
        return self._values[key]

    def _constant(self, node: Node) -> int:
        """0 and +-1 (and booleans) belong to the structure; other numbers are read at run time."""
        value = node.params["value"]
        if node.dtype.kind == "b" or value in (0, 1, -1):
            bits = value.tobytes()  # -0.0 is not 0.0
            return self._instruction("literal", (), (value.item(), bits), node.dtype, set())
        self.draft.numbers.append(value)
        return self._instruction("number", (), (len(self.draft.numbers) - 1,), node.dtype, set())

    def _iota(self, node: Node, axis: int | None) -> int:
        if axis is None:
            return self._instruction("literal", (), (0, b""), node.dtype, set())
        self.draft.pinned.add(axis)
        return self._instruction("iota", (), (axis,), node.dtype, {axis})

    def _load(self, access: Access, axes: Map, dtype: np.dtype) -> int:
        strides = self._loop_strides(access.strides, axes)
        slot = self._array(access.base, access.offset, strides, dtype)
        depends = {axis for axis, extent in zip(axes, access.shape, strict=True) if axis is not None and extent != 1}
        moving = {axis for axis in depends if strides[axis] != 0}
        return self._instruction("load", (), (slot,), dtype, moving)

    # --- arrays

    def _loop_strides(self, strides: tuple[int, ...], axes: Map) -> list[int]:
        loops = [0] * len(self.draft.extents)
        for axis, stride in zip(axes, strides, strict=True):
            if axis is not None:
                loops[axis] += stride
        return loops

    def _array(self, base: Node, offset: int, strides: list[int], dtype: np.dtype) -> int:
        key = (base, offset, tuple(strides))
        if key not in self._arrays:
            self._arrays[key] = self._new_array(base, offset, strides, dtype, ())
        return self._arrays[key]

    def _new_array(self, base: Node, offset: int, strides: list[int], dtype: np.dtype, indexed: tuple) -> int:
        draft = self.draft
        draft.buffers.append(base)
        draft.offsets.append(offset)
        draft.strides.append(list(strides))
        draft.dtypes.append(dtype)
        draft.indexed.append(indexed)
        return len(draft.buffers) - 1

    def _indexed_array(self, node: Node, access: Access, count: int, index_map: Map, rest: Map | None = None) -> int:
        """An array whose leading `count` axes are indexed by values, its other axes by the loops after the indices'."""
        rest = self._identity[len(index_map) :] if rest is None else rest
        strides = self._loop_strides(access.strides[count:], rest)
        indexed = tuple(zip(access.shape[:count], access.strides[:count], strict=True))
        key = (access.base, access.offset, tuple(strides), indexed)
        if key not in self._arrays:
            self._arrays[key] = self._new_array(access.base, access.offset, strides, node.dtype, indexed)
        return self._arrays[key]


# --- from a draft to a kernel: order of loops, merged loops, patterns


def finish(draft: _Draft) -> tuple[Kernel, Binding]:
    """Orders the loops, merges those that walk memory as one, and drops loops of one step."""
    groups = _merge(draft, _loop_order(draft))
    position = {axis: k for k, group in enumerate(groups) for axis in group}
    strides = [tuple(array[group[-1]] for group in groups) for array in draft.strides]
    arrays = tuple(
        Array(dtype, tuple(_mark(s, k == len(groups) - 1) for k, s in enumerate(moves)), len(indexed))
        for dtype, moves, indexed in zip(draft.dtypes, strides, draft.indexed, strict=True)
    )

    def bits(axes) -> int:
        return sum(1 << k for k in {position[axis] for axis in axes if axis in position})

    body = []
    for op, operands, params, dtype, axes in draft.body:
        if op == "iota":
            op, params = ("iota", (position[params[0]],)) if params[0] in position else ("literal", (0, b""))
        body.append(Instruction(op, operands, params, dtype, bits(axes)))
    folds = tuple(Fold(op, value, slot, bits(axes)) for op, value, slot, axes in draft.folds)
    numbers = tuple(np.asarray(number).dtype for number in draft.numbers)
    kernel = Kernel(len(groups), arrays, numbers, tuple(body), tuple(draft.stores), folds, config.fastmath)
    extents = tuple(prod(draft.extents[axis] for axis in group) for group in groups)
    binding = Binding(
        extents, tuple(draft.buffers), tuple(draft.offsets), tuple(strides), tuple(draft.indexed), tuple(draft.numbers)
    )
    return kernel, binding


def _mark(stride: int, innermost: bool) -> int:
    return ABSENT if stride == 0 else UNIT if stride == 1 and innermost else STRIDED


def _loop_order(draft: _Draft) -> list[int]:
    """Loops of more than one step, longest strides outermost, so that the innermost walks memory one by one."""
    axes = [axis for axis, extent in enumerate(draft.extents) if extent != 1]
    weight = {axis: sum(min(abs(strides[axis]), 1 << 40) for strides in draft.strides) for axis in axes}
    return sorted(axes, key=lambda axis: (-weight[axis], axis))


def _merge(draft: _Draft, order: list[int]) -> list[list[int]]:
    """Neighbouring loops that every array walks as one loop, and that every fold treats alike, become one."""
    groups: list[list[int]] = []
    for axis in order:
        if groups and _mergeable(draft, groups[-1][-1], axis):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _mergeable(draft: _Draft, outer: int, inner: int) -> bool:
    if outer in draft.pinned or inner in draft.pinned:
        return False
    if any((outer in axes) != (inner in axes) for *_, axes in draft.folds):
        return False
    extent = draft.extents[inner]
    return all(strides[outer] == strides[inner] * extent for strides in draft.strides)


def covers_whole(place: Node) -> bool:
    """Whether the pieces of a place cover all of it, so that nothing need be filled with zeros before."""
    return place.primitive is INTO or sum(operand.aval.size for operand in place.operands) == place.aval.size


def combining_kernel(op: str, parts: list[Node], results: list[Node]) -> tuple[Kernel, Binding]:
    """The kernel that folds each of `parts`, all of one shape, along its first axis into the result at its place."""
    whole, count = parts[0], len(parts)
    axes = set(range(whole.ndim))
    strides = [list(contiguous_strides(node.shape)) for node in parts]
    strides += [[0, *contiguous_strides(node.shape)] for node in results]
    dtypes = [node.dtype for node in (*parts, *results)]
    body: list[tuple] = [("load", (), (slot,), node.dtype, axes) for slot, node in enumerate(parts)]
    folds = [(op, slot, count + slot, frozenset({0})) for slot in range(count)]
    offsets = [0] * (2 * count)
    indexed: list[tuple[tuple[int, int], ...]] = [()] * (2 * count)
    draft = _Draft(whole.shape, body, [*parts, *results], offsets, strides, dtypes, indexed, [], [], folds, set())
    return finish(draft)
