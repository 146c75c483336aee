"""What stands for statements in rewritten code. `rewrite` says how statements become calls of these functions."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import tree
from ...errors import Limitation, UsageTypeError
from ...ir import control
from ...ir.node import Node, constant, constant_value
from ...ir.node import call as make
from ..aliasing import rebind
from ..array import Array
from ..convert import as_array
from ..loops import truth
from .context import Impure, pure, side_effect
from .functions import call, maker, provide
from .iterables import INT64, Lane, lane_of
from .values import (
    UNBOUND,
    Kind,
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

FELL, BROKE, RETURNED = 0, 1, 2
FEWEST = 8  # steps of a loop of known length from which on it is not unrolled
_ATTEMPTS = 6

slice = slice  # for rewritten subscripts


@dataclass(eq=False)
class Left:
    """How a block was left: `code`, its local variables then, and the value that it returns."""

    code: Any
    names: dict[str, Any]
    value: Any = None
    broken: Any = False


def fell(names: dict) -> Left:
    return Left(FELL, names)


skipped = fell  # by `continue`


def broke(names: dict) -> Left:
    return Left(BROKE, names)


def returned(value, names: dict) -> Left:
    return Left(RETURNED, names, value)


def go_on(rest: Callable, names: Sequence[str], values: dict) -> Left:
    """The block goes on with `rest`."""
    return rest(*_taken(names, values))


def _taken(names: Sequence[str], values: dict) -> list:
    return [values.get(name, UNBOUND) for name in names]


def values(left: Left, names: Sequence[str]) -> list:
    """What the names hold after a block."""
    return _taken(names, left.names)


def done(left: Left):
    """What a function returns that was left like this."""
    if isinstance(left.code, Array):
        raise UsageTypeError(
            "on some ways through it the function returns a value, on others nothing, which traced values decide",
            "Return a value of one structure on every way.",
        )
    return left.value if left.code == RETURNED else None


# --- branches


def is_traced(value) -> bool:
    return isinstance(value, Array)


def _truth(value: Array) -> Node:
    """The bool node of a traced condition."""
    if value.size != 1:
        bool(value)  # refuses: ambiguous
    node = truth(value.checked().node)
    return node if not node.aval.shape else make("reshape", node, shape=())


def branch(test, then: Callable, otherwise: Callable, names: Sequence[str], given: dict, raises: bool = False) -> Left:
    """`if test: ... else: ...`"""
    held = _taken(names, given)
    if is_traced(test):
        known = constant_value(_truth(test))
        if known is None:
            return _staged_branch(test, then, otherwise, names, held, raises)
        test = known
    left = (then if test else otherwise)(*held)
    return Left(left.code, {**given, **left.names}, left.value, left.broken)


def _staged_branch(test: Array, then: Callable, otherwise: Callable, names: Sequence[str], held: list, raises: bool) -> Left:
    if not raises:
        try:
            with pure():
                return _Branch(names, held).run(_truth(test), then, otherwise)
        except Impure as error:
            refused = error
        try:
            decided = bool(test)
        except UsageTypeError:
            raise refused from None
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
        may = [isinstance(side.code, Array) or side.code == RETURNED for side in sides]
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
        return Left(code, {name: value for name, value in names.items() if value is not UNBOUND}, self.value(found))


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
    return Array(make("logical_not", _truth(value)), bool) if is_traced(value) else not value


def compared(left, *steps):
    """`left < a < b ...`"""

    def go_on_from(value, k: int):
        compare, operand = steps[k]
        right = operand()
        result = compare(value, right)
        return result if k + 1 == len(steps) else both(result, lambda: go_on_from(right, k + 1))

    return go_on_from(left, 0)


# --- loops


def each(items, step: Callable, names: Sequence[str], given: dict, is_plain: bool) -> Left:
    """`for ... in items: ...`"""
    lane = lane_of(items)
    held = _taken(names, given)
    if lane is not None and isinstance(lane.length, Array):
        if not is_plain:
            raise _not_rolled("its body does more than compute")
        with pure():
            return _finished(_Loop(names, held, given).over(lane, step), given)
    if lane is not None and is_plain and lane.length > FEWEST and (isinstance(items, (Array, Lane)) or _any_traced(held)):
        rolled = _attempt(lambda: _Loop(names, held, given).over(lane, step))
        if rolled is not None:
            return _finished(rolled, given)
    return _plain_loop(iter(items), step, names, given)


def _not_rolled(why: str) -> Limitation:
    return Limitation(
        f"a loop whose number of steps is traced cannot be unrolled, and {why}", "Let its body only compute, or bound it by a plain int."
    )


def _any_traced(held: list) -> bool:
    return any(isinstance(leaf, Array) for leaf in flatten(held)[0])


def _attempt(roll: Callable[[], Left]) -> Left | None:
    """The loop rolled, None if it cannot be: then it is to be unrolled, and nothing has been done."""
    try:
        with pure():
            return roll()
    except Exception:  # whatever is wrong will be wrong again, or not, when the loop is unrolled
        return None


def _finished(left: Left, given: dict) -> Left:
    return Left(left.code, {**given, **left.names}, left.value, left.broken)


def _plain_loop(items, step: Callable, names: Sequence[str], given: dict) -> Left:
    """The loop as Python does it."""
    now = dict(given)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return Left(FELL, now)
        left = step(item, *_taken(names, now))
        now = {**{name: v for name, v in now.items() if name not in names}, **{n: left.names[n] for n in names if n in left.names}}
        if isinstance(left.code, Array):
            return _go_on_staged(left, now, lambda state: _plain_loop(items, step, names, state), names)
        if left.code == BROKE:
            return Left(FELL, now, broken=True)
        if left.code == RETURNED:
            return Left(RETURNED, now, left.value)


def _go_on_staged(left: Left, now: dict, go_on: Callable[[dict], Left], names: Sequence[str]) -> Left:
    """An unrolled loop that traced values may end: the further steps are on one side of a branch."""

    def leave(*held) -> Left:
        return Left(left.code, dict(zip(names, held, strict=True)), left.value)

    def stay(*held) -> Left:
        return go_on({**now, **dict(zip(names, held, strict=True))})

    further = branch(Array(make("equal", left.code.node, constant(FELL, INT64)), bool), stay, leave, names, now)
    further.broken = _is_code(further.code, BROKE) if isinstance(further.code, Array) else further.broken
    if isinstance(further.code, Array):
        further.code = _without_break(further.code)
    return further


def _is_code(code, which: int):
    return Array(make("equal", code.node, constant(which, INT64)), bool)


def _without_break(code: Array) -> Array | int:
    """RETURNED where the code is that, else FELL."""
    returned = make("equal", code.node, constant(RETURNED, INT64))
    return Array(make("select", returned, constant(RETURNED, INT64), constant(FELL, INT64)), int)


def repeat(test: Callable, step: Callable, names: Sequence[str], given: dict, is_plain: bool) -> Left:
    """`while test: ...`"""
    now = dict(given)
    while True:
        asked = test(*_taken(names, now))
        if is_traced(asked):
            known = constant_value(_truth(asked))
            if known is None:
                break
            asked = known
        if not asked:
            return Left(FELL, now)
        left = step(*_taken(names, now))
        now = {**{name: v for name, v in now.items() if name not in names}, **{n: left.names[n] for n in names if n in left.names}}
        if isinstance(left.code, Array):
            return _go_on_staged(left, now, lambda state: repeat(test, step, names, state, is_plain), names)
        if left.code == BROKE:
            return Left(FELL, now, broken=True)
        if left.code == RETURNED:
            return Left(RETURNED, now, left.value)
    if not is_plain:
        raise _not_rolled("its body does more than compute")
    with pure():
        return _finished(_Loop(names, _taken(names, now), now).until(test, step), now)


class _Retry(Exception):
    """The loop has to be traced again, with other types for what it carries."""


class _Loop:
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
            return _truth(answer)

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
            if isinstance(left.code, Array) or left.code == RETURNED:
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
                    raise self._unlike(n, f"changes its shape from {self.kinds[n, k].aval.shape} to {kind_of(after).aval.shape}")
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
        if not (isinstance(left.code, Array) or left.code == RETURNED) or left.value is None:
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
        broken = _is_code(code, BROKE)
        if self.returns is None:
            return Left(FELL, names, broken=broken)
        kinds, structure = self.returns
        value = tree.unflatten(structure, [Array(next(at), kind.weak) for kind in kinds])
        return Left(_without_break(code), names, value, broken)


def was_broken(left: Left):
    """Whether a loop was ended by `break`, or by `return`: its `else` is not for it then."""
    if not isinstance(left.code, Array):
        return True if left.code == RETURNED else left.broken
    return any_of(left.broken, lambda: _is_code(left.code, RETURNED))


def after(left: Left, rest: Callable, names: Sequence[str], given: dict) -> Left:
    """What follows a loop that may have returned."""
    held = {**given, **{name: value for name, value in left.names.items() if name in names}}
    if not isinstance(left.code, Array):
        return left if left.code == RETURNED else rest(*_taken(names, held))
    has_returned = _is_code(left.code, RETURNED)
    return branch(has_returned, lambda *v: Left(RETURNED, dict(zip(names, v, strict=True)), left.value), rest, names, held)


# --- other statements


def raising() -> None:
    """Before `raise`."""
    side_effect("an exception is raised")


def check(condition, message: Callable) -> None:
    """`assert condition, message`"""
    if is_traced(condition):
        condition = bool(condition)
    if not condition:
        raising()
        text = message()
        raise AssertionError(*(() if text is None else (text,)))


def store(target, key, value) -> None:
    """`target[key] = value`"""
    if not isinstance(target, Array):
        side_effect(f"an element of a {type(target).__name__} is set")
    target[key] = value


_IN_PLACE = {
    "Add": operator.iadd, "Sub": operator.isub, "Mult": operator.imul, "Div": operator.itruediv, "FloorDiv": operator.ifloordiv,
    "Mod": operator.imod, "Pow": operator.ipow, "MatMult": operator.imatmul, "BitAnd": operator.iand, "BitOr": operator.ior,
    "BitXor": operator.ixor, "LShift": operator.ilshift, "RShift": operator.irshift,
}  # fmt: skip


def store_changed(name: str, target, key, value) -> None:
    """`target[key] += value` and its like."""
    if not isinstance(target, Array):
        side_effect(f"an element of a {type(target).__name__} is set")
    target[key] = _IN_PLACE[name](target[key], value)


def changed(name: str, value, other):
    """`value += other` and its like."""
    if isinstance(value, (list, dict, set, np.ndarray, bytearray)) or (
        not isinstance(value, Array) and hasattr(type(value), "__i" + _METHODS[name]) and not isinstance(value, np.generic)
    ):
        side_effect(f"a {type(value).__name__} is changed in place")
    return _IN_PLACE[name](value, other)


_METHODS = {
    "Add": "add__", "Sub": "sub__", "Mult": "mul__", "Div": "truediv__", "FloorDiv": "floordiv__", "Mod": "mod__", "Pow": "pow__",
    "MatMult": "matmul__", "BitAnd": "and__", "BitOr": "or__", "BitXor": "xor__", "LShift": "lshift__", "RShift": "rshift__",
}  # fmt: skip

__all__ = [
    "UNBOUND", "after", "any_of", "both", "branch", "broke", "call", "changed", "check", "compared", "done", "each", "either",
    "fell", "go_on", "maker", "negated", "raising", "repeat", "returned", "skipped", "slice", "store", "store_changed", "values", "was_broken",
]  # fmt: skip

provide(sys.modules[__name__])
