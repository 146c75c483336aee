"""Between which bounds integers of loops lie, so that indices known to be inside need no check."""

from __future__ import annotations

from ..ir.node import Node, constant_value

Bounds = tuple[int | None, int | None]
_UNKNOWN: Bounds = (None, None)


class Intervals:
    """Bounds of int64 scalars, found out in the order of computation."""

    def __init__(self) -> None:
        self._found: dict[Node, Bounds] = {}

    def of(self, node: Node) -> Bounds:
        """The lowest and the highest value, None where it is not known."""
        known = constant_value(node)
        if known is not None and node.dtype.kind in "iu":
            return int(known), int(known)
        return self._found.get(node, _UNKNOWN)

    def counter(self, node: Node, trip: Node) -> None:
        """`node` counts the steps of a loop of at most `trip`."""
        highest = self.of(trip)[1]
        self._found[node] = 0, None if highest is None else max(highest - 1, 0)

    def same(self, node: Node, other: Node) -> None:
        self._found[node] = self.of(other)

    def compute(self, node: Node) -> None:
        """`node` is computed from scalars whose bounds are known as far as they are. Bounds near the ends of int64 are
        dropped: what is computed might wrap."""
        self._found[node] = _UNKNOWN  # the body of two loops may be one: nothing is left from the other
        if node.dtype.name != "int64":
            return
        bounds = [self.of(operand) for operand in node.operands]
        match node.primitive.name, bounds:
            case "add", [(a, b), (c, d)]:
                found = _sum(a, c), _sum(b, d)
            case "subtract", [(a, b), (c, d)]:
                found = _sum(a, _minus(d)), _sum(b, _minus(c))
            case "negative", [(a, b)]:
                found = _minus(b), _minus(a)
            case "multiply", [(a, b), (c, d)]:
                if a is None or b is None or c is None or d is None:
                    return
                products = a * c, a * d, b * c, b * d
                found = min(products), max(products)
            case "maximum", [(a, b), (c, d)]:
                lows = [x for x in (a, c) if x is not None]
                found = max(lows, default=None), None if b is None or d is None else max(b, d)
            case "minimum", [(a, b), (c, d)]:
                highs = [x for x in (b, d) if x is not None]
                found = None if a is None or c is None else min(a, c), min(highs, default=None)
            case _:
                return
        if all(bound is None or abs(bound) < 1 << 62 for bound in found):
            self._found[node] = found


def _sum(x: int | None, y: int | None) -> int | None:
    return None if x is None or y is None else x + y


def _minus(x: int | None) -> int | None:
    return None if x is None else -x
