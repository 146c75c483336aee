"""Branches on traced conditions, and what else asks for a truth: `and`, `or`, `not`, chains of comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ... import tree
from ...errors import UsageTypeError
from ...ir import control
from ...ir.node import Node, constant, constant_value
from ...ir.node import call as make
from ..aliasing import rebind
from ..array import Array
from ..convert import as_array
from ..loops import truth
from .context import Impure, pure, refusal
from .iterables import INT64
from .left import Left, returned, taken
from .values import (
    UNBOUND,
    Poison,
    as_kind,
    check_apart,
    flatten,
    fresh,
    is_numeric,
    joined,
    kind_of,
    poisoned,
    refuse_poison,
    same,
    zeros_of,
)


def is_traced(value) -> bool:
    return isinstance(value, Array)


def truth_of(value: Array) -> Node:
    """The bool node of a traced condition."""
    if value.size != 1:
        bool(value)  # refuses: ambiguous
    node = truth(value.checked().node)
    return node if not node.aval.shape else make("reshape", node, shape=())


def branch(test, then: Callable, otherwise: Callable, names: Sequence[str], given: dict, raises: bool = False) -> Left:
    """`if test: ... else: ...`"""
    held = taken(names, given)
    if is_traced(test):
        known = constant_value(truth_of(test))
        if known is None:
            return _staged_branch(test, then, otherwise, names, held, raises)
        test = known
    left = (then if test else otherwise)(*held)
    return replace(left, names={**given, **left.names})


def _staged_branch(test: Array, then: Callable, otherwise: Callable, names: Sequence[str], held: list, raises: bool) -> Left:
    if not raises:
        try:
            with pure():
                return _Branch(names, held).run(truth_of(test), then, otherwise)
        except Impure as error:
            refused = error
        try:
            decided = bool(test)
        except UsageTypeError:
            raise refusal(refused) from None
    else:
        decided = bool(test)
    return (then if decided else otherwise)(*held)


class _Branch:
    """A branch on a traced condition."""

    def __init__(self, names: Sequence[str], held: list):
        self.names, self.held = names, held
        self.leaves, self.structure = flatten(held)
        check_apart(self.leaves)
        self.handles: list[list] = []

    def run(self, predicate: Node, then: Callable, otherwise: Callable) -> Left:
        found = control.branch(predicate, lambda: self._side(then), lambda: self._side(otherwise), self._agree)
        return self._joined(iter(found))

    def _side(self, side: Callable) -> Left:
        handles = [fresh(leaf) for leaf in self.leaves]
        self.handles.append(handles)
        return side(*tree.unflatten(self.structure, handles))

    def _agree(self, first: Left, second: Left) -> tuple[list[Node], list[Node]]:
        """What both sides give as nodes of equal types; notes how the values are built from them."""
        sides = first, second
        nodes: tuple[list[Node], list[Node]] = ([], [])
        self.plan = [(name, self._plan(name, [side.names.get(name, UNBOUND) for side in sides], nodes)) for name in self.names]
        self.code = self._plan_code([side.code for side in sides], nodes)
        self.value = self._plan_value(sides, nodes)
        self.broken = False
        return nodes

    def _plan(self, name: str, pair: list, nodes) -> Callable:
        """How the value of a name is built: a function of an iterator over the results."""
        if same(*pair):
            return lambda found: self._restored(pair[0])
        if any(isinstance(value, Poison) for value in pair):
            poison = next(value for value in pair if isinstance(value, Poison))
            return lambda found: poison
        if any(value is UNBOUND for value in pair):
            return lambda found: poisoned(name, "has a value on one side of a branch only")
        plan = self._plan_tree(pair, nodes)
        if plan is None:
            return lambda found: poisoned(name, "is something else on either side of a branch")
        return plan

    def _plan_tree(self, pair: list, nodes) -> Callable | None:
        trees = [flatten(value) for value in pair]
        if trees[0][1] != trees[1][1]:
            return None
        entries: list = []
        for first, second in zip(trees[0][0], trees[1][0], strict=True):
            if same(first, second):
                entries.append(first)
                continue
            kind = joined(kind_of(first), kind_of(second)) if is_numeric(first) and is_numeric(second) else None
            if kind is None:
                return None
            entries.append((kind, self._original(first, second)))
        for entry, first, second in zip(entries, trees[0][0], trees[1][0], strict=True):
            if isinstance(entry, tuple):
                nodes[0].append(as_kind(first, entry[0]))
                nodes[1].append(as_kind(second, entry[0]))
        structure = trees[0][1]

        def build(found):
            leaves = []
            for entry in entries:
                if not isinstance(entry, tuple):
                    leaves.append(self._restored(entry))
                    continue
                kind, original = entry
                made = Array(next(found), kind.weak)
                if original is not None and original.node.aval == made.node.aval:
                    rebind(original, made.node)
                    made = original
                leaves.append(made)
            return tree.unflatten(structure, leaves)

        return build

    def _original(self, first, second) -> Array | None:
        """The array that both sides changed in place, or left as it is."""
        for leaf, one, other in zip(self.leaves, *self.handles, strict=True):
            if isinstance(leaf, Array) and one is first and other is second:
                return leaf
        return None

    def _restored(self, value):
        """`value` with the arrays of the block in place of the handles that a side was given."""
        for leaf, *others in zip(self.leaves, *self.handles, strict=True):
            if any(value is other for other in others) and isinstance(leaf, Array) and leaf.node is value.node:
                return leaf
        return value

    def _plan_code(self, codes: list, nodes) -> Callable:
        if same(*codes):
            return lambda found: codes[0]
        for side, code in zip(nodes, codes, strict=True):
            side.append(as_array(code).node if isinstance(code, Array) else constant(code, INT64))
        return lambda found: Array(next(found), int)

    def _plan_value(self, sides: Sequence[Left], nodes) -> Callable:
        """The returned value: of a side that does not return, anything will do."""
        may = [side.returns for side in sides]
        self.returns = any(may)
        if not any(may):
            return lambda found: None
        if all(may):
            pair = [side.value for side in sides]
            if same(*pair):
                return lambda found: pair[0]
            refuse_poison(pair, "return")
            plan = self._plan_tree(pair, nodes)
            if plan is None:
                raise UsageTypeError(
                    "the two sides of a branch on traced values return results of different structures or shapes",
                    "Return values of one structure and shape on both sides.",
                )
            return plan
        index = may.index(True)
        leaves, structure = flatten(sides[index].value)
        kinds = [kind_of(leaf) if is_numeric(leaf) else None for leaf in leaves]
        for leaf, kind in zip(leaves, kinds, strict=True):
            if kind is not None:
                nodes[index].append(as_kind(leaf, kind))
                nodes[1 - index].append(zeros_of(kind))
        return lambda found: tree.unflatten(
            structure,
            [leaf if kind is None else Array(next(found), kind.weak) for leaf, kind in zip(leaves, kinds, strict=True)],
        )

    def _joined(self, found) -> Left:
        names = {name: plan(found) for name, plan in self.plan}
        code = self.code(found)
        bound = {name: value for name, value in names.items() if value is not UNBOUND}
        return Left(code, bound, self.value(found), returns=self.returns)


def either(test, then: Callable, otherwise: Callable):
    """`then if test else otherwise`"""
    if not is_traced(test):
        return then() if test else otherwise()
    left = branch(test, lambda: returned(then(), {}), lambda: returned(otherwise(), {}), (), {})
    return left.value


def both(first, *others: Callable):
    """`first and ...`"""
    for other in others:
        if is_traced(first):
            kept = first
            first = either(first, other, lambda kept=kept: kept)
        elif not first:
            return first
        else:
            first = other()
    return first


def any_of(first, *others: Callable):
    """`first or ...`"""
    for other in others:
        if is_traced(first):
            kept = first
            first = either(first, lambda kept=kept: kept, other)
        elif first:
            return first
        else:
            first = other()
    return first


def negated(value):
    """`not value`"""
    return Array(make("logical_not", truth_of(value)), bool) if is_traced(value) else not value


def compared(left, *steps):
    """`left < a < b ...`"""

    def go_on_from(value, k: int):
        compare, operand = steps[k]
        right = operand()
        result = compare(value, right)
        return result if k + 1 == len(steps) else both(result, lambda: go_on_from(right, k + 1))

    return go_on_from(left, 0)
