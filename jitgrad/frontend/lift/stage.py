"""What stands for statements in rewritten code. `rewrite` says how statements become calls of these functions."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...errors import Limitation
from ...ir.node import call as make
from ...ir.node import constant, constant_value
from ..array import Array
from ..convert import as_array, contains_traced
from .branching import any_of, both, branch, compared, either, is_traced, negated, truth_of
from .context import demanded, pure, side_effect
from .functions import call, maker, provide
from .iterables import INT64, Lane, lane_of
from .left import (
    BROKE,
    FELL,
    RETURNED,
    Left,
    broke,
    done,
    fell,
    go_on,
    is_code,
    returned,
    skipped,
    taken,
    values,
    without_break,
)
from .looping import Loop
from .values import UNBOUND, Poison, flatten, refuse_poison

FEWEST = 8  # steps of a loop of known length from which on it is not unrolled
LARGE, MOST_UNROLLED = 1 << 17, 64  # elements of arrays, and steps on them up to which loops are unrolled all the same

slice = slice  # for rewritten subscripts


# --- loops


def each(items, step: Callable, names: Sequence[str], given: dict, is_plain: bool) -> Left:
    """`for ... in items: ...`"""
    lane = lane_of(items)
    held = taken(names, given)
    if lane is not None and isinstance(lane.length, Array):
        if not is_plain:
            raise _not_rolled("its body does more than compute")
        with demanded():
            return _finished(Loop(names, held, given).over(lane, step), given)
    if lane is not None and is_plain and _is_worth_a_node(lane.length, items, held):
        rolled = _attempt(lambda: Loop(names, held, given).over(lane, step))
        if rolled is not None:
            return _finished(rolled, given)
    return _plain_loop(iter(items), step, names, given)


def _is_worth_a_node(length: int, items, held: list) -> bool:
    """Whether a loop of known length is to be one node: of few steps on large arrays each step is rather planned for itself,
    as threads share what is not in a loop."""
    if length <= FEWEST or not (isinstance(items, (Array, Lane)) or _any_traced(held)):
        return False
    largest = max((leaf.size for leaf in flatten(held)[0] if isinstance(leaf, Array)), default=0)
    return length > MOST_UNROLLED or largest < LARGE


def _not_rolled(why: str) -> Limitation:
    return Limitation(
        f"a loop whose number of steps is traced cannot be unrolled, and {why}",
        "Let its body only compute, or bound it by a plain int.",
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
    return replace(left, names={**given, **left.names})


def _plain_loop(items, step: Callable, names: Sequence[str], given: dict) -> Left:
    """The loop as Python does it."""
    now = dict(given)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return Left(FELL, now)
        left = step(item, *taken(names, now))
        now = _updated(now, names, left)
        if isinstance(left.code, Array):
            return _go_on_staged(left, now, lambda state: _plain_loop(items, step, names, state), names)
        if left.code == BROKE:
            return Left(FELL, now, broken=True)
        if left.code == RETURNED:
            return replace(left, names=now)


def _updated(now: dict, names: Sequence[str], left: Left) -> dict:
    """What all names hold after a step."""
    kept = {name: value for name, value in now.items() if name not in names}
    return kept | {name: left.names[name] for name in names if name in left.names}


def _go_on_staged(left: Left, now: dict, go_on: Callable[[dict], Left], names: Sequence[str]) -> Left:
    """An unrolled loop that traced values may end: the further steps are on one side of a branch."""

    def leave(*held) -> Left:
        return replace(left, names=dict(zip(names, held, strict=True)))

    def stay(*held) -> Left:
        return go_on({**now, **dict(zip(names, held, strict=True))})

    further = branch(Array(make("equal", left.code.node, constant(FELL, INT64)), bool), stay, leave, names, now)
    further.broken = is_code(further.code, BROKE) if isinstance(further.code, Array) else further.broken
    if isinstance(further.code, Array):
        further.code = without_break(further.code)
    return further


def repeat(test: Callable, step: Callable, names: Sequence[str], given: dict, is_plain: bool) -> Left:
    """`while test: ...`"""
    now = dict(given)
    while True:
        asked = test(*taken(names, now))
        if is_traced(asked):
            known = constant_value(truth_of(asked))
            if known is None:
                break
            asked = known
        if not asked:
            return Left(FELL, now)
        left = step(*taken(names, now))
        now = _updated(now, names, left)
        if isinstance(left.code, Array):
            return _go_on_staged(left, now, lambda state: repeat(test, step, names, state, is_plain), names)
        if left.code == BROKE:
            return Left(FELL, now, broken=True)
        if left.code == RETURNED:
            return replace(left, names=now)
    if not is_plain:
        raise _not_rolled("its body does more than compute")
    with demanded():
        return _finished(Loop(names, taken(names, now), now).until(test, step), now)


def was_broken(left: Left):
    """Whether a loop was ended by `break`, or by `return`: its `else` is not for it then."""
    if not isinstance(left.code, Array):
        return True if left.code == RETURNED else left.broken
    return any_of(left.broken, lambda: is_code(left.code, RETURNED))


def after(left: Left, rest: Callable, names: Sequence[str], given: dict) -> Left:
    """What follows a loop that may have returned."""
    held = {**given, **{name: value for name, value in left.names.items() if name in names}}
    if not isinstance(left.code, Array):
        return left if left.code == RETURNED else rest(*taken(names, held))
    has_returned = is_code(left.code, RETURNED)
    return branch(has_returned, lambda *v: returned(left.value, dict(zip(names, v, strict=True))), rest, names, held)


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


def result(value):
    """What a function returns."""
    if isinstance(value, (Poison, tuple, list, dict)):
        refuse_poison([value], "return")
    return value


def item(array, key):
    """`array[key]`: of a plain array at a traced place, a traced element."""
    if isinstance(array, np.ndarray) and contains_traced(list(key) if isinstance(key, tuple) else [key]):
        return as_array(array)[key]  # type: ignore[index]
    return array[key]


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
    "Add": "add__", "Sub": "sub__", "Mult": "mul__", "Div": "truediv__", "FloorDiv": "floordiv__", "Mod": "mod__",
    "Pow": "pow__", "MatMult": "matmul__", "BitAnd": "and__", "BitOr": "or__", "BitXor": "xor__", "LShift": "lshift__",
    "RShift": "rshift__",
}  # fmt: skip

__all__ = [
    "UNBOUND", "after", "any_of", "both", "branch", "broke", "call", "changed", "check", "compared", "done", "each",
    "either", "fell", "go_on", "item", "maker", "negated", "raising", "repeat", "result", "returned", "skipped", "slice",
    "store", "store_changed", "values", "was_broken",
]  # fmt: skip

provide(sys.modules[__name__])
