"""Tile sizes of the matrix product, and the scratch memory they imply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

VECTOR_CHUNK = 4096
"""Elements of a vector operand that a matrix-vector product copies or keeps in cache at a time."""


class VectorFeatures(Protocol):
    """What the tile choice reads of a target: the width of its vector registers in bits (128, 256 or 512)."""

    @property
    def vector_bits(self) -> int: ...


@dataclass(frozen=True)
class Tile:
    """Blocking of a matrix product, all in elements.

    A micro-kernel holds ``mr x nr`` results in registers; ``kc x nc`` of B and ``mc x kc`` of A are packed at
    a time; ``lanes`` is the length of one vector register.
    """

    mr: int
    nr: int
    mc: int
    kc: int
    nc: int
    lanes: int

    def __post_init__(self) -> None:
        if self.nr % self.lanes or self.nc % self.nr or self.mc % self.mr or self.mr % 4:
            raise ValueError(f"inconsistent tile {self}: nr in lanes, nc in nr, mc in mr, mr in fours")


def choose_tile(dtype: np.dtype, features: VectorFeatures) -> Tile:
    """The tile for a register file: 32 registers of 512 bits hold 8 x 3 vectors, 16 of less hold 4 x 3.

    ``kc`` lets one packed panel of B (``kc x nr``) fill a first-level cache; a smaller one rewrites C more
    often.

    >>> from types import SimpleNamespace
    >>> choose_tile(np.dtype("float64"), SimpleNamespace(vector_bits=512))
    Tile(mr=8, nr=24, mc=120, kc=256, nc=960, lanes=8)
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"no matrix product of our own for {dtype}: float32 and float64 only")
    if features.vector_bits not in (128, 256, 512):
        raise ValueError(f"vector_bits must be 128, 256 or 512, not {features.vector_bits}")
    lanes = features.vector_bits // (8 * dtype.itemsize)
    rows = 8 if features.vector_bits == 512 else 4
    nr = 3 * lanes
    return Tile(mr=rows, nr=nr, mc=120, kc=256, nc=nr * max(1, 7680 // (nr * dtype.itemsize)), lanes=lanes)


def round_up(value: int, multiple: int) -> int:
    """The least multiple that is not below value."""
    return -(-value // multiple) * multiple


def workspace_elements(dtype: np.dtype, tile: Tile, m: int, n: int, k: int) -> int:
    """Elements of scratch that a product of these extents may touch, for any strides of the operands.

    >>> from types import SimpleNamespace
    >>> tile = choose_tile(np.dtype("float64"), SimpleNamespace(vector_bits=512))
    >>> workspace_elements(np.dtype("float64"), tile, 1, 100, 50)
    8096
    """
    if min(m, n, k) <= 0:
        return 0
    panels = max(_panels(tile, m, n, k), _panels(tile, n, m, k))
    if m > 1 and n > 1:
        return panels
    return max(panels, min(max(m, n, k), VECTOR_CHUNK))


def _panels(tile: Tile, m: int, n: int, k: int) -> int:
    """Packed blocks of A and B, and one panel of C where C has no unit stride."""
    columns = min(round_up(n, tile.lanes), tile.nc)
    rows = min(round_up(m, tile.mr), tile.mc)
    return tile.nr * rows + min(k, tile.kc) * (columns + rows)
