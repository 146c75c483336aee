"""Where buffers lie in one piece of memory."""

from __future__ import annotations

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class Arena:
    """First-fit allocation of offsets; neighbouring free pieces are joined."""

    def __init__(self):
        self.size = 0
        self._free: list[tuple[int, int]] = []  # (offset, bytes), by offset

    def take(self, size: int) -> int:
        size = _rounded(size)
        for k, (offset, free) in enumerate(self._free):
            if free >= size:
                self._free[k : k + 1] = [(offset + size, free - size)] if free > size else []
                return offset
        offset = self.size
        if self._free and sum(self._free[-1]) == self.size:  # grow the last free piece
            offset = self._free.pop()[0]
        self.size = offset + size
        return offset

    def give(self, offset: int, size: int) -> None:
        pieces = sorted([*self._free, (offset, _rounded(size))])
        joined = [pieces[0]]
        for piece in pieces[1:]:
            start, length = joined[-1]
            if start + length == piece[0]:
                joined[-1] = (start, length + piece[1])
            else:
                joined.append(piece)
        self._free = joined


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
