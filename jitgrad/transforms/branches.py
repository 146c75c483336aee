"""Derivatives of branches: the side that was taken is the side that is differentiated.

Forward: a branch that gives the tangents too. Reverse: a branch on the same predicate between the two sides' derivatives,
which take the cotangents of the operands so far and give them back with their shares added. What they read of the forward
side is saved on stacks by a branch that is the old one with pushes in it (see `loops`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.aval import StackAval
from ..ir.body import Body, between, empty_stack, exchanged, extend, is_unchanging, latest, mark_changing, up_to_date
from ..ir.control import get, parts
from ..ir.node import Node, call
from .activity import is_differentiable
from .forward import pushforward
from .opened import Thread, new_branch, stand_in, thread_of
from .residuals import read_by, to_save
from .reverse import pullback
from .stacks import zeros
from .vanishing import assume_may_vanish, may_vanish


def push(tangents, primals, out, *, then, otherwise):
    """The tangents of a branch's results, by part."""
    given = dict(zip(primals, tangents, strict=True))
    count = len(then.output_avals)
    out = latest(out)
    predicate, *operands = out.operands
    then, otherwise = out.params["then"], out.params["otherwise"]
    tangents = [given.get(node) for node in out.operands]
    inputs = [stand_in(node) for node in operands]
    along = [None if t is None else stand_in(node) for t, node in zip(tangents[1:], operands, strict=True)]
    outside = dict(zip(inputs, operands, strict=True))
    outside |= {a: t for a, t in zip(along, tangents[1:], strict=True) if a is not None}
    results = [body.opened(inputs) for body in (then, otherwise)]
    moved = [pushforward(side, inputs, along) for side in results]
    flowing = [k for k in range(len(results[0])) if moved[0][k] is not None or moved[1][k] is not None]
    if not flowing:
        return None
    sides = [
        [*side, *(zeros(side[k].aval) if m[k] is None else m[k] for k in flowing)]
        for side, m in zip(results, moved, strict=True)
    ]
    node = new_branch(predicate, outside, sides)
    extend(out, node)
    found = {k: get(node, len(results[0]) + place) for place, k in enumerate(flowing) if k < count}
    for k, tangent in found.items():
        if any(_vanishes(m[k]) for m in moved):
            assume_may_vanish(tangent)
    return found


def _vanishes(share: Node | None) -> bool:
    return share is None or may_vanish(share)


@dataclass
class _Side:
    """One side of a branch: its forward results, the new totals by operand (None: nothing flowed), and what is saved."""

    results: list[Node]
    totals: dict[int, Node | None]
    saved: list[Node]
    threads: list[Thread]


def pull(cotangents, totals, wanted, out):
    """The totals of a branch's operands, the shares of the side that was taken added."""
    new = latest(out)
    if new is out:
        return _Reverse(out, cotangents, totals, wanted).run()
    given = {node: (t, w) for node, t, w in zip(out.operands, totals, wanted, strict=True)}
    pairs = [given.get(node, (None, False)) for node in new.operands]
    found = _Reverse(new, cotangents, [t for t, _ in pairs], [w for _, w in pairs]).run()
    by_node = dict(zip(new.operands, found, strict=True))
    return [by_node.get(node) for node in out.operands]


class _Reverse:
    """One branch on its way back."""

    def __init__(self, node: Node, cotangents: dict[int, Node], totals: Sequence, wanted: Sequence[bool]):
        self.node, self.cotangents, self.totals = node, cotangents, list(totals)
        self.predicate, *self.operands = node.operands
        self.wanted = [k for k, w in enumerate(wanted[1:]) if w and is_differentiable(self.operands[k])]
        self.inputs = [stand_in(node) for node in self.operands]
        mark_changing([i for i, outer in zip(self.inputs, self.operands, strict=True) if not is_unchanging(outer)])
        self.seeds = {k: stand_in(ct) for k, ct in cotangents.items()}
        self.sums = {k: stand_in(t) for k in self.wanted if (t := self.totals[1 + k]) is not None}

    def run(self) -> list[Node | None]:
        for k, seed in self.seeds.items():
            if may_vanish(self.cotangents[k]):
                assume_may_vanish(seed)
        for k, total in self.sums.items():
            if may_vanish(self.totals[1 + k]):
                assume_may_vanish(total)
        sides = [self._side(self.node.params[name]) for name in ("then", "otherwise")]
        flowing = [k for k in self.wanted if any(side.totals[k] is not self.sums.get(k) for side in sides)]
        if not flowing:
            return self.totals
        counts = [len(side.saved) + len(side.threads) for side in sides]
        saver = self._saver(sides) if any(counts) else None
        filled = [] if saver is None else parts(saver)[len(self.node.aval.parts) :]  # type: ignore[attr-defined]
        reverse = self._reverse(sides, flowing, filled)
        for place, k in enumerate(flowing):
            share = get(reverse, place)
            if any(_vanishes(side.totals[k]) for side in sides):
                assume_may_vanish(share)
            self.totals[1 + k] = share
        return self.totals

    def _side(self, body: Body) -> _Side:
        results = body.opened(self.inputs)
        found = pullback(
            [results[k] for k in self.seeds],
            [self.inputs[k] for k in self.wanted],
            list(self.seeds.values()),
            [self.sums.get(k) for k in self.wanted],
        )
        roots = up_to_date([node for node in found if node is not None])
        updated = iter(roots)
        found = [None if node is None else next(updated) for node in found]
        seeds = {*self.seeds.values(), *self.sums.values()}
        needed = read_by(roots, seeds)
        reverse = between(roots, {*seeds, *needed})
        own = set(self.inputs)
        threads = [
            thread_of(node, reverse)
            for node in needed
            if isinstance(node.aval, StackAval) and node.primitive.name != "empty" and node not in own
        ]
        free = {i for i, operand in zip(self.inputs, self.operands, strict=True) if is_unchanging(operand)}
        saved = [node for node in to_save(needed, [i for i in self.inputs if i not in free], free) if node not in own]
        return _Side(results, dict(zip(self.wanted, found, strict=True)), saved, threads)

    def _stack_avals(self, sides: list[_Side]) -> list:
        """The elements of the stacks: sides share them, as only one of the two uses them."""
        lists = [[node.aval for node in side.saved] + [t.start.params["aval"] for t in side.threads] for side in sides]
        avals: list = []
        for own in lists:
            left = list(avals)
            for aval in own:
                if aval in left:
                    left.remove(aval)
                else:
                    avals.append(aval)
        return avals

    def _places(self, side: _Side, avals: list) -> list[int]:
        """Which stack each of the side's saved values and threads has."""
        free = list(range(len(avals)))
        places = []
        for aval in [node.aval for node in side.saved] + [t.start.params["aval"] for t in side.threads]:
            place = next(k for k in free if avals[k] == aval)
            free.remove(place)
            places.append(place)
        return places

    def _saver(self, sides: list[_Side]) -> Node:
        """The branch with what it saves on stacks, after the results that it has anyway."""
        avals = self._stack_avals(sides)
        stacks = [empty_stack(aval) for aval in avals]
        inputs = [stand_in(stack) for stack in stacks]
        outside = dict(zip([*self.inputs, *inputs], [*self.operands, *stacks], strict=True))
        results = []
        for side in sides:
            after = list(inputs)
            places = self._places(side, avals)
            pushed = [call("push", inputs[p], node) for p, node in zip(places, side.saved, strict=False)]
            passing = {t.start: inputs[p] for p, t in zip(places[len(side.saved) :], side.threads, strict=True)}
            roots = up_to_date([*side.results, *pushed, *(t.filled for t in side.threads)])
            roots = exchanged(roots, {**passing, **{i: i for i in inputs}})
            for place, node in zip(places, roots[len(side.results) :], strict=True):
                after[place] = node
            results.append([*roots[: len(side.results)], *after])
        node = new_branch(self.predicate, outside, results)
        extend(self.node, node)
        return node

    def _reverse(self, sides: list[_Side], flowing: list[int], filled: list[Node]) -> Node:
        """The branch back: the totals of the operands through which something flows, then what is left of the stacks."""
        inputs = [stand_in(node) for node in filled]
        avals = [node.aval.element for node in filled]  # type: ignore[attr-defined]
        outside = dict(zip([*self.inputs, *inputs], [*self.operands, *filled], strict=True))
        outside |= {seed: self.cotangents[k] for k, seed in self.seeds.items()}
        outside |= {total: self.totals[1 + k] for k, total in self.sums.items()}
        results = []
        for side in sides:
            known: dict[Node, Node] = {}
            left = list(inputs)
            places = self._places(side, avals)
            for place, node in zip(places, side.saved, strict=False):
                popped = call("pop", inputs[place])
                known[node], left[place] = get(popped, 1), get(popped, 0)
            for place, thread in zip(places[len(side.saved) :], side.threads, strict=True):
                known[thread.filled], left[place] = inputs[place], thread.left
            now = [side.totals[k] or zeros(self.operands[k].aval) for k in flowing]
            results.append(exchanged([*now, *left], known))
        return new_branch(self.predicate, outside, results)
