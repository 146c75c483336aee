"""A kernel: a loop nest over a domain with a straight-line scalar body. Target-free, and free of sizes.

Kernels are compared by value: two kernels that are equal are one piece of machine code, whatever the extents, strides,
addresses and numbers, which are read at run time from the words of a `Binding`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.node import Node

ABSENT, UNIT, STRIDED = 0, 1, 2  # how an access moves along an axis: not at all, by one element, by a run-time stride


@dataclass(frozen=True)
class Instruction:
    """One value of the body. `axes` is the bit set of loop axes on which it depends.

    op: a primitive's name with `operands` (indices of earlier instructions) and `params`, or one of
      "load" (slot)             the element of array `slot`
      "number" (slot)           a run-time constant
      "literal" (value)         a constant that is part of the structure
      "iota" (axis)             the loop counter of an axis
      "gather" (slot, ndim)     the element of array `slot` at the operands' indices; the trailing axes by the pattern
    """

    op: str
    operands: tuple[int, ...]
    params: tuple
    dtype: np.dtype
    axes: int


@dataclass(frozen=True)
class Array:
    """One array that a kernel reads or writes: its dtype and how it moves along each axis (ABSENT, UNIT, STRIDED)."""

    dtype: np.dtype
    pattern: tuple[int, ...]
    indexed: int = 0  # a gathered or scattered array: number of leading axes that indices address


@dataclass(frozen=True)
class Store:
    """array[slot] at each point of the domain is `value`; with `indices`, `value` is added there."""

    value: int
    slot: int
    indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fold:
    """array[slot] = `value` folded over the axes in the bit set `axes` by the reduction primitive `op`."""

    op: str
    value: int
    slot: int
    axes: int


@dataclass(frozen=True)
class Kernel:
    """`rank` loops, outermost first; the innermost is the one that runs in lanes."""

    rank: int
    arrays: tuple[Array, ...]
    numbers: tuple[np.dtype, ...]
    body: tuple[Instruction, ...]
    stores: tuple[Store, ...] = ()
    folds: tuple[Fold, ...] = ()
    fastmath: bool = False  # floating-point arithmetic may be reassociated, contracted and use reciprocals

    def __hash__(self) -> int:  # hashed once: kernels are keys of caches
        found = self.__dict__.get("_hash")
        if found is None:
            found = hash((self.rank, self.arrays, self.numbers, self.body, self.stores, self.folds, self.fastmath))
            object.__setattr__(self, "_hash", found)
        return found


@dataclass(frozen=True)
class Binding:
    """What a kernel reads at run time for one problem size.

    extents: one per loop. For each array: the node whose buffer it is, the offset in elements, the strides along the
    loops, and for an indexed array (extents, strides) of the indexed axes. numbers: the values of the constants.
    """

    extents: tuple[int, ...]
    buffers: tuple[Node, ...]
    offsets: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    indexed: tuple[tuple[tuple[int, int], ...], ...]
    numbers: tuple


def describe(kernel: Kernel) -> str:
    """The kernel as text, for people."""
    marks = {ABSENT: "-", UNIT: "1", STRIDED: "s"}
    axes = " ".join("ijklmnop"[k] if k < 8 else f"i{k}" for k in range(kernel.rank))
    lines = [f"kernel over ({axes})"]
    for slot, array in enumerate(kernel.arrays):
        lines.append(f"  array{slot}: {array.dtype}[{''.join(marks[p] for p in array.pattern)}]" + ("*" * array.indexed))
    for index, step in enumerate(kernel.body):
        inputs = ", ".join([f"v{k}" for k in step.operands] + _described_params(step))
        lines.append(f"  v{index} = {step.op}({inputs})")
    for fold in kernel.folds:
        over = ",".join(str(k) for k in range(kernel.rank) if fold.axes >> k & 1)
        lines.append(f"  array{fold.slot} = {fold.op}(v{fold.value}, over={over})")
    for store in kernel.stores:
        where = f"[{', '.join(f'v{k}' for k in store.indices)}] +=" if store.indices else " ="
        lines.append(f"  array{store.slot}{where} v{store.value}")
    return "\n".join(lines)


def _described_params(step: Instruction) -> list[str]:
    match step.op:
        case "load" | "gather":
            return [f"array{step.params[0]}", *(f"ndim={ndim}" for ndim in step.params[1:])]
        case "literal":
            return [str(step.params[0])]
        case "number" | "iota":
            return [str(value) for value in step.params]
    return [f"{name}={value}" for name, value in step.params]
