"""Builders of loops and branches: they run functions that make the bodies, and find out what these read from outside.

    loop(trip, init..., captured...; body, test, carries)  -> (carries..., count)
    cond(predicate, operands...; then, otherwise)          -> (results...)
    get(tuple; part)

body: (i, carries..., captured...) -> carries...; test: the same inputs -> bool, asked before each step (None: always
yes). i counts from 0, of dtype int64. `trip` bounds the steps, `count` says how many were done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..errors import JitgradError
from .aval import Aval, TupleAval, aval_of
from .body import Body, between, close, exchanged, forget_from, is_constant, mark_changing
from .node import Node, call, constant, constant_value, fresh_input, scope

INDEX = aval_of((), np.int64)
TRUTH = aval_of((), np.bool_)
NO_BOUND = np.iinfo(np.int64).max


class _Mismatch(JitgradError):
    """Avals that should be equal: `position` says which, `first` and `second` what they are."""

    what_differs = ""

    def __init__(self, position: int, first: Aval | None, second: Aval | None):
        self.position, self.first, self.second = position, first, second
        super().__init__(f"{self.what_differs} {position} is {first} and {second}")


class CarryMismatch(_Mismatch):
    """A loop's body gives another aval for a carry than it takes."""

    what_differs = "what a loop carries in place"


class BranchMismatch(_Mismatch):
    """The two sides of a branch give different avals."""

    what_differs = "the result of a branch in place"


def parts(node: Node) -> list[Node]:
    """The values of a tuple."""
    assert isinstance(node.aval, TupleAval)
    return [get(node, part) for part in range(len(node.aval.parts))]


def get(node: Node, part: int) -> Node:
    """One value of a tuple."""
    return call("get", node, part=part)


# --- loops


def loop(
    trip: Node | None,
    init: Sequence[Node],
    body: Callable[[Node, list[Node]], Sequence[Node]],
    test: Callable[[Node, list[Node]], Node] | None = None,
) -> tuple[list[Node], Node]:
    """What the carries are after the last step, and how many steps were done.

    `body(i, carries)` gives the carries of the next step, `test(i, carries)` whether there is one; both are called once, with
    fresh inputs. `trip`: an int64 scalar, None for no bound. Raises CarryMismatch.

    >>> from jitgrad.ir.graph import Graph
    >>> from jitgrad.ir.interpret import run
    >>> from jitgrad.ir.node import interning
    >>> import jitgrad
    >>> with interning():
    ...     x = fresh_input(aval_of((), "f8"))
    ...     (y,), count = loop(constant(3, np.int64), [x], lambda i, carries: [carries[0] * x])
    ...     graph = Graph((x,), (y, count))
    >>> run(graph, [np.array(2.0)])
    [array(16.), array(3)]
    """
    mark = len(scope().table)
    i = fresh_input(INDEX)
    carries = [fresh_input(node.aval) for node in init]
    mark_changing(carries)
    try:
        asked = None if test is None else test(i, list(carries))
        results = list(body(i, list(carries)))
        for position, (before, after) in enumerate(zip(carries, results, strict=True)):
            if before.aval != after.aval:
                raise CarryMismatch(position, before.aval, after.aval)
    except BaseException:
        forget_from(mark)
        raise
    trip = constant(NO_BOUND, np.int64) if trip is None else trip
    inner = _keep_invariant(forget_from(mark), {i, *carries}, _makes_a_step(trip, asked))
    return closed_loop(trip, list(init), i, carries, results, asked, inner)


def _makes_a_step(trip: Node, asked: Node | None) -> bool:
    known = constant_value(trip)
    return asked is None and known is not None and known > 0


def _keep_invariant(made: list[tuple], inside: set[Node], certain: bool) -> set[Node]:
    """Puts those nodes back into the scope's table that do not depend on `inside` and may be computed even if the loop makes
    no step (if it is `certain` to make one: also those that may fail). Work that is always the same is done once, before
    the loop. Returns the nodes that stay inside."""
    table = scope().table
    depends = set(inside)
    for key, node in made:
        if type(node) is not Node or node in depends:
            continue
        if not depends.isdisjoint(node.operands) or node.primitive.name in (_STACKS if certain else _MAY_FAIL):
            depends.add(node)
        else:
            table[key] = node
    return depends - inside


_STACKS = {"empty", "push", "pop"}
_MAY_FAIL = _STACKS | {"gather", "scatter_add", "scatter_set", "loop", "cond", "get"}
"""What must not be computed for nothing: it may be an error, or take long."""


def closed_loop(
    trip: Node,
    init: list[Node],
    i: Node,
    carries: list[Node],
    results: list[Node],
    asked: Node | None,
    inner: Iterable[Node] = (),
) -> tuple[list[Node], Node]:
    """The loop whose body computes `results`, and its test `asked`, from the fresh inputs `i` and `carries`. `inner` are
    nodes that stay in the body although they depend on no fresh input.

    Carries that never change are no carries. Returns (a node per carry, count).
    """
    fixed: dict[Node, Node] = {}
    while True:
        changed = [
            k for k, (c, r) in enumerate(zip(carries, results, strict=True)) if c not in fixed and (r is c or r is init[k])
        ]
        if not changed:
            break
        fixed |= {carries[k]: init[k] for k in changed}
        mark = len(scope().table)
        roots = exchanged([*results, *([] if asked is None else [asked])], fixed)
        inner = _keep_invariant(forget_from(mark), {i, *carries}, _makes_a_step(trip, asked)).union(inner)
        results, asked = roots[: len(results)], (None if asked is None else roots[-1])
    kept = [k for k, carry in enumerate(carries) if carry not in fixed]
    inside = [i, *(carries[k] for k in kept)]
    outputs = [results[k] for k in kept]
    captured = _captured([*outputs, *([] if asked is None else [asked])], inside, set(inner))
    body = close([*inside, *captured], outputs)
    test = None if asked is None else close([*inside, *captured], [asked])
    node = call("loop", trip, *(init[k] for k in kept), *captured, body=body, test=test, carries=len(kept))
    found = dict(zip(kept, parts(node), strict=False))
    return [found.get(k, init[k]) for k in range(len(carries))], get(node, len(kept))


def _captured(roots: Sequence[Node], inside: Sequence[Node], inner: set[Node]) -> list[Node]:
    """What a body takes from outside: the nodes nearest to `roots` that depend on none of `inside` and are not `inner`."""
    depends = set(inside) | inner
    order = between(roots, set(inside))
    for node in order:
        if not depends.isdisjoint(node.operands):
            depends.add(node)
    found: dict[Node, None] = {}
    for node in order:
        if node in depends and node not in inside:
            found.update(dict.fromkeys(o for o in node.operands if o not in depends and not is_constant(o)))
    found.update(dict.fromkeys(r for r in roots if r not in depends and not is_constant(r)))
    return list(found)


# --- branches


def cond(
    predicate: Node, then: Callable[[], Sequence[Node]], otherwise: Callable[[], Sequence[Node]]
) -> list[Node]:
    """The results of `then()` where `predicate` holds, else of `otherwise()`; only one of them is computed at run time.

    Both are called once, and what they make belongs to the branch. Raises BranchMismatch.
    """
    known = constant_value(predicate)
    if known is not None:
        return list(then() if known else otherwise())
    return branch(predicate, then, otherwise, lambda first, second: (list(first), list(second)))


def branch(predicate: Node, then: Callable, otherwise: Callable, agree: Callable) -> list[Node]:
    """`cond` with sides that give anything: `agree(first, second)` makes of it the nodes of either side."""
    mark = len(scope().table)
    own: list[tuple] = []
    try:
        made = []
        for side in (then, otherwise):
            made.append(side())
            own += forget_from(mark)
        first, second = agree(*made)
        own += forget_from(mark)
    except BaseException:
        forget_from(mark)
        raise
    for position in range(max(len(first), len(second))):
        avals = [side[position].aval if position < len(side) else None for side in (first, second)]
        if avals[0] != avals[1]:
            raise BranchMismatch(position, *avals)
    return closed_cond(predicate, first, second, {node for _, node in own if type(node) is Node})


def closed_cond(predicate: Node, first: list[Node], second: list[Node], inner: set[Node]) -> list[Node]:
    """The branch between `first` and `second`; `inner` are the nodes that belong to a side."""
    different = [k for k, (a, b) in enumerate(zip(first, second, strict=True)) if a is not b or a in inner]
    sides = [first[k] for k in different], [second[k] for k in different]
    operands = list(dict.fromkeys([*_captured(sides[0], (), inner), *_captured(sides[1], (), inner)]))
    if not different:
        return list(first)
    bodies = [close(operands, side) for side in sides]
    node = call("cond", predicate, *operands, then=bodies[0], otherwise=bodies[1])
    found = dict(zip(different, parts(node), strict=True))
    return [found.get(k, a) for k, a in enumerate(first)]


# --- reading them


class Loop:
    """A loop node taken apart."""

    __slots__ = ("node", "trip", "init", "captured", "body", "test")

    def __init__(self, node: Node):
        count = node.params["carries"]
        self.node = node
        self.trip: Node = node.operands[0]
        self.init: tuple[Node, ...] = node.operands[1 : 1 + count]
        self.captured: tuple[Node, ...] = node.operands[1 + count :]
        self.body: Body = node.params["body"]
        self.test: Body | None = node.params["test"]

    @property
    def carries(self) -> int:
        return len(self.init)
