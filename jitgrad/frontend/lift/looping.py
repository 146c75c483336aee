"""Loops that become one node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import tree
from ...errors import Limitation, UsageTypeError
from ...ir import control
from ...ir.node import Node, constant
from ...ir.node import call as make
from ..aliasing import rebind
from ..array import Array
from ..convert import as_array
from .branching import both, truth_of
from .iterables import INT64, Lane
from .left import BROKE, FELL, Left, is_code, without_break
from .values import (
    UNBOUND,
    Kind,
    Poison,
    as_kind,
    check_apart,
    flatten,
    is_numeric,
    joined,
    kind_of,
    poisoned,
    refuse_poison,
    same,
    zeros_of,
)

_ATTEMPTS = 6


class _Retry(Exception):
    """The loop has to be traced again, with other types for what it carries."""


class Loop:
    """A loop that becomes one node: traced again until the types of what it carries do not change any more."""

    def __init__(self, names: Sequence[str], held: list, given: dict):
        self.names, self.given = list(names), given
        self.trees = [flatten(value) for value in held]
        check_apart([leaf for leaves, _ in self.trees for leaf in leaves])
        self.held = held
        self.kinds: dict[tuple[int, int], Kind] = {
            (n, k): kind_of(leaf)
            for n, (leaves, _) in enumerate(self.trees)
            for k, leaf in enumerate(leaves)
            if isinstance(leaf, Array)
        }
        self.late: dict[int, tuple[list, Any]] = {}  # names that get their value inside: (kinds, structure)
        self.jumps = False
        self.returns: tuple[list, Any] | None = None

    def over(self, lane: Lane, step: Callable) -> Left:
        length = lane.length
        trip = constant(length, INT64) if isinstance(length, int) else as_array(length).node
        self.certain = isinstance(length, int) and length > 0
        return self._run(trip, None, lambda i, held: step(lane.at(i), *held))

    def until(self, test: Callable, step: Callable) -> Left:
        self.certain = False
        return self._run(None, test, lambda i, held: step(*held))

    def _run(self, trip: Node | None, test: Callable | None, step: Callable) -> Left:
        for _ in range(_ATTEMPTS):
            try:
                return self._once(trip, test, step)
            except _Retry:
                continue
        raise Limitation("what a loop carries does not settle on one type", "Start it with the type that it comes to have.")

    # --- one attempt

    def _once(self, trip: Node | None, test: Callable | None, step: Callable) -> Left:
        self.order = sorted(self.kinds)
        init = [as_kind(self.trees[n][0][k], self.kinds[n, k]) for n, k in self.order]
        for kinds, _ in self.late.values():
            init += [zeros_of(kind) for kind in kinds]
        if self.jumps:
            init.append(constant(FELL, INT64))
        if self.returns is not None:
            init += [zeros_of(kind) for kind in self.returns[0]]
        self.result: Left | None = None

        def body(i: Node, carries: list[Node]) -> list[Node]:
            held = self._opened(carries)
            left = step(Array(i, int), held)
            return self._closed(left, carries)

        def asked(i: Node, carries: list[Node]) -> Node:
            going = None
            if self.jumps:
                going = make("equal", carries[self._code_place()], constant(FELL, INT64))
            if test is None:
                return going  # type: ignore[return-value]
            held = self._opened(carries)

            def ask():
                answer = test(*held)
                return answer if isinstance(answer, Array) else Array(constant(bool(answer), np.bool_), bool)

            answer = ask() if going is None else both(Array(going, bool), ask)
            return truth_of(answer)

        wants_test = test is not None or self.jumps
        finals, _ = control.loop(trip, init, body, asked if wants_test else None)
        return self._after(finals)

    def _code_place(self) -> int:
        return len(self.order) + sum(len(kinds) for kinds, _ in self.late.values())

    def _opened(self, carries: list[Node]) -> list:
        """The values of the names in a step."""
        at = iter(carries)
        leaves = [list(leaves) for leaves, _ in self.trees]
        self.handles: dict[tuple[int, int], Array] = {}
        for n, k in self.order:
            leaves[n][k] = self.handles[n, k] = Array(next(at), self.kinds[n, k].weak)
        held = [tree.unflatten(structure, own) for own, (_, structure) in zip(leaves, self.trees, strict=True)]
        for n, (kinds, structure) in self.late.items():
            held[n] = tree.unflatten(structure, [Array(next(at), kind.weak) for kind in kinds])
        return held

    def _closed(self, left: Left, carries: list[Node]) -> list[Node]:
        """The carries after a step; _Retry if they are of other types than before it."""
        again = False
        nodes: list[Node] = []
        self.changed_handles: dict[tuple[int, int], bool] = {}
        ends = [left.names.get(name, UNBOUND) for name in self.names]
        for n, end in enumerate(ends):
            if n in self.late:
                continue
            again |= self._compare(n, end)
        again |= self._compare_late(ends)
        jumping = isinstance(left.code, Array) or left.code != FELL
        if jumping and not self.jumps:
            self.jumps = again = True
        again |= self._compare_returned(left)
        if again:
            raise _Retry
        for n, k in self.order:
            leaf = flatten(ends[n])[0][k]
            self.changed_handles[n, k] = leaf is self.handles[n, k]
            nodes.append(as_kind(leaf, self.kinds[n, k]))
        for n, (kinds, _) in self.late.items():
            nodes += [as_kind(leaf, kind) for leaf, kind in zip(flatten(ends[n])[0], kinds, strict=True)]
        if self.jumps:
            nodes.append(left.code.node if isinstance(left.code, Array) else constant(left.code, INT64))
        if self.returns is not None:
            kinds, _ = self.returns
            if left.returns:
                nodes += [as_kind(leaf, kind) for leaf, kind in zip(flatten(left.value)[0], kinds, strict=True)]
            else:
                nodes += [zeros_of(kind) for kind in kinds]
        self.ends = ends
        return nodes

    def _compare(self, n: int, end) -> bool:
        """Whether the types of name `n` have to change; they are changed then."""
        leaves, structure = self.trees[n]
        start = self.held[n]
        if start is UNBOUND or isinstance(start, Poison):
            if end is start or isinstance(end, Poison):
                return False
            found, inner = flatten(end)
            if not all(is_numeric(leaf) for leaf in found):
                return False  # a helper, a function: of no use after the loop
            self.late[n] = [kind_of(leaf) for leaf in found], inner
            return True
        found, inner = flatten(end)
        if end is UNBOUND or inner != structure:
            raise self._unlike(n, "changes its structure")
        again = False
        for k, (before, after) in enumerate(zip(leaves, found, strict=True)):
            if (n, k) in self.kinds:
                if not is_numeric(after):
                    raise self._unlike(n, "becomes something else than a number or array")
                kind = joined(self.kinds[n, k], kind_of(after))
                if kind is None:
                    shapes = f"from {self.kinds[n, k].aval.shape} to {kind_of(after).aval.shape}"
                    raise self._unlike(n, f"changes its shape {shapes}")
                again |= kind != self.kinds[n, k]
                self.kinds[n, k] = kind
            elif not same(before, after):
                if not (is_numeric(before) and is_numeric(after)):
                    raise self._unlike(n, "becomes another object")
                self.kinds[n, k] = joined(kind_of(before), kind_of(after)) or kind_of(before)
                again = True
        return again

    def _compare_late(self, ends: list) -> bool:
        again = False
        for n, (kinds, structure) in list(self.late.items()):
            found, inner = flatten(ends[n])
            if inner != structure or not all(is_numeric(leaf) for leaf in found):
                raise self._unlike(n, "changes its structure")
            both_kinds = [joined(kind, kind_of(leaf)) for kind, leaf in zip(kinds, found, strict=True)]
            if None in both_kinds:
                raise self._unlike(n, "changes its shape")
            again |= both_kinds != kinds
            self.late[n] = [kind for kind in both_kinds if kind is not None], structure
        return again

    def _compare_returned(self, left: Left) -> bool:
        if not left.returns:
            return False
        found, structure = flatten(left.value)
        refuse_poison([left.value], "return")
        kinds = [kind_of(leaf) for leaf in found]
        if self.returns is None:
            self.returns = kinds, structure
            return True
        if self.returns[1] != structure:
            raise UsageTypeError("a loop returns values of different structures")
        both_kinds = [joined(a, b) for a, b in zip(self.returns[0], kinds, strict=True)]
        if None in both_kinds:
            raise UsageTypeError("a loop returns values of different shapes")
        again = both_kinds != self.returns[0]
        self.returns = [kind for kind in both_kinds if kind is not None], structure
        return again

    def _unlike(self, n: int, how: str) -> Exception:
        return UsageTypeError(
            f"{self.names[n]!r} {how} from one step of a loop to the next",
            "What a loop carries on must keep its structure and shape: start it with the shape that it comes to have.",
        )

    # --- after the loop

    def _after(self, finals: list[Node]) -> Left:
        at = iter(finals)
        leaves = [list(leaves) for leaves, _ in self.trees]
        for n, k in self.order:
            made = Array(next(at), self.kinds[n, k].weak)
            original = self.trees[n][0][k]
            if self.changed_handles[n, k] and isinstance(original, Array) and original.node.aval == made.node.aval:
                rebind(original, made.node)
                made = original
            leaves[n][k] = made
        names = {}
        for n, name in enumerate(self.names):
            if n in self.late:
                kinds, structure = self.late[n]
                made = tree.unflatten(structure, [Array(next(at), kind.weak) for kind in kinds])
                names[name] = made if self.certain else poisoned(name, "has a value only if a loop makes a step")
            elif self.held[n] is not UNBOUND:
                names[name] = tree.unflatten(self.trees[n][1], leaves[n])
            elif self.ends[n] is not UNBOUND:
                names[name] = poisoned(name, "is made anew in each step of a loop and is no number or array")
        if not self.jumps:
            return Left(FELL, names)
        code = Array(next(at), int)
        broken = is_code(code, BROKE)
        if self.returns is None:
            return Left(FELL, names, broken=broken)
        kinds, structure = self.returns
        value = tree.unflatten(structure, [Array(next(at), kind.weak) for kind in kinds])
        return Left(without_break(code), names, value, broken, returns=True)
