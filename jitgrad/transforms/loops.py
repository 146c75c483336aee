"""Derivatives of loops.

Forward: the same loop, which also carries the tangents.

Reverse: with c' = body(i, c, x), x being captured,

    d = D_c body^T d',    X += D_x body^T d'

from the last step to the first: a loop that carries d, the cotangent of the carries, and X, the cotangents of what is
captured, which start from what they hold already. What the body's derivative reads of the forward steps is saved on
stacks by a loop that is the old one with pushes in it (the passes let it take the old one's place), and popped from them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InternalError
from ..ir.aval import StackAval
from ..ir.body import between, empty_stack, exchanged, extend, is_unchanging, latest, mark_changing, up_to_date
from ..ir.control import INDEX, Loop, get
from ..ir.graph import topological
from ..ir.node import Node, call, constant, constant_value, fresh_input, full
from .activity import active_nodes, is_differentiable
from .forward import pushforward
from .opened import Part, Thread, new_loop, open_loop, stand_in, thread_of
from .residuals import read_by, to_save
from .reverse import pullback
from .stacks import added, zeros
from .vanishing import assume_may_vanish, may_vanish


def push(tangents, primals, out, *, body, test, carries):
    """The tangents of a loop's results, by part."""
    loop = Loop(latest(out))
    tangents = _for_latest(tangents, Loop(out), loop, None)
    count, carries = carries, loop.carries
    opened = open_loop(loop)
    given = dict(enumerate(tangents[1 + carries :]))
    captured = {m: stand_in(node) for m, node in given.items() if node is not None}
    moving = {k: stand_in(c) for k, c in enumerate(opened.carries) if tangents[1 + k] is not None}
    while True:
        inputs = [*opened.carries, *opened.captured]
        along = [moving.get(k) for k in range(carries)] + [captured.get(m) for m in range(len(opened.captured))]
        moved = pushforward(opened.results, inputs, along)
        new = [k for k, t in enumerate(moved) if t is not None and k not in moving]
        if not new:
            break
        moving |= {k: stand_in(opened.carries[k]) for k in new}
    parts = [Part(c, init, r) for c, init, r in zip(opened.carries, loop.init, opened.results, strict=True)]
    order = sorted(moving)
    for k in order:
        tangent = tangents[1 + k]
        start = zeros(loop.init[k].aval) if tangent is None else tangent
        result = moved[k]
        parts.append(Part(moving[k], start, zeros(loop.init[k].aval) if result is None else result))
    outside = dict(zip(opened.captured, loop.captured, strict=True))
    outside |= {captured[m]: given[m] for m in captured}
    node = new_loop(loop.trip, opened.i, parts, outside, opened.asked)
    extend(loop.node, node)
    return {k: get(node, carries + place) for place, k in enumerate(order) if k < count}


def _for_latest(given: Sequence, old: Loop, new: Loop, missing) -> list:
    """What is `given` for each operand of `old`, for each of `new`, which has been put in its place."""
    if new.node is old.node:
        return list(given)
    captured = dict(zip(old.captured, given[1 + old.carries :], strict=True))
    carries = [*given[1 : 1 + old.carries], *[missing] * (new.carries - old.carries)]
    return [given[0], *carries, *(captured.get(node, missing) for node in new.captured)]


def pull(cotangents, totals, wanted, out):
    """The totals of a loop's operands, the loop's shares added."""
    old, new = Loop(out), Loop(latest(out))
    if new.node is old.node:
        return _Reverse(old, cotangents, totals, wanted).run()
    found = _Reverse(new, cotangents, _for_latest(totals, old, new, None), _for_latest(wanted, old, new, False)).run()
    captured = dict(zip(new.captured, found[1 + new.carries :], strict=True))
    return [*found[: 1 + old.carries], *(captured.get(node) for node in old.captured)]


class _Reverse:
    """One loop on its way back."""

    def __init__(self, loop: Loop, cotangents: dict[int, Node], totals: Sequence, wanted: Sequence[bool]):
        self.loop, self.cotangents = loop, cotangents
        count = loop.carries
        self.totals = list(totals)
        self.wants_init, self.wants_captured = wanted[1 : 1 + count], wanted[1 + count :]

    def run(self) -> list[Node | None]:
        loop = self.loop
        starts = {k: self.cotangents.get(k) or zeros(node.aval) for k, node in enumerate(loop.init)}
        sums = {
            m: self.totals[1 + loop.carries + m] or zeros(node.aval)
            for m, node in enumerate(loop.captured)
            if self.wants_captured[m]
        }
        seeds_vanish = {k for k, node in starts.items() if k in self.cotangents and may_vanish(node)}
        self.opened = open_loop(loop)
        self.active = self._active()
        if not self.active:
            return self.totals
        self._walk_back(seeds_vanish, {m for m, node in sums.items() if may_vanish(node)})
        self._choose_residuals()
        stacks = [empty_stack(node.aval) for node in self.saved]
        saver = self._saver(stacks)
        heights = range(loop.carries, loop.carries + len(self.saved) + len(self.threads))
        filled = [get(saver, k) for k in heights]
        count = self._count(saver)
        reverse = self._reverse(starts, sums, filled, count)
        return self._totals(reverse)

    # --- which carries a derivative flows through

    def _active(self) -> list[int]:
        opened = self.opened
        order = topological(opened.results)
        sought = [node for node, wants in zip(opened.captured, self.wants_captured, strict=True) if wants]
        varied = {k for k, wants in enumerate(self.wants_init) if wants and is_differentiable(opened.carries[k])}
        while True:
            active = active_nodes(order, [*sought, *(opened.carries[k] for k in varied)])
            new = {k for k, r in enumerate(opened.results) if k not in varied and r in active and is_differentiable(r)}
            if not new:
                break
            varied |= new
        live = {k for k in varied if k in self.cotangents}
        reached = {k: active_nodes(order, [opened.carries[k]]) for k in varied - live}
        while True:
            new = {k for k in varied - live if any(opened.results[j] in reached[k] for j in live)}
            if not new:
                return sorted(live)
            live |= new

    # --- the reverse body

    def _walk_back(self, vanish: set[int], sums_vanish: set[int]) -> None:
        """One step back; again as long as cotangents turn out to have zeros that were not thought of."""
        opened = self.opened
        sought = [m for m, wants in enumerate(self.wants_captured) if wants and is_differentiable(opened.captured[m])]
        while True:
            self.seeds = {k: stand_in(opened.carries[k]) for k in self.active}
            self.sums = {m: stand_in(opened.captured[m]) for m in sought}
            mark_changing([*self.seeds.values(), *self.sums.values()])
            for k in vanish & self.seeds.keys():
                assume_may_vanish(self.seeds[k])
            for m in sums_vanish & self.sums.keys():
                assume_may_vanish(self.sums[m])
            inputs = [*(opened.carries[k] for k in self.active), *(opened.captured[m] for m in sought)]
            found = pullback(
                [opened.results[k] for k in self.active],
                inputs,
                [self.seeds[k] for k in self.active],
                [*[None] * len(self.active), *(self.sums[m] for m in sought)],
            )
            self.before = {
                k: zeros(opened.carries[k].aval) if g is None else g for k, g in zip(self.active, found, strict=False)
            }
            self.summed = {m: self.sums[m] if g is None else g for m, g in zip(sought, found[len(self.active) :], strict=True)}
            new = {k for k, g in zip(self.active, found, strict=False) if g is not None and k not in vanish and may_vanish(g)}
            grown = {m: g for m, g in self.summed.items() if g is not self.sums[m] and m not in sums_vanish}
            more = {m for m, g in grown.items() if may_vanish(g)}
            if not new and not more:
                break
            vanish, sums_vanish = vanish | new, sums_vanish | more
        self.vanish, self.sums_vanish = vanish, sums_vanish
        unchanged = [m for m in sought if self.summed[m] is self.sums[m]]
        for m in unchanged:
            del self.summed[m], self.sums[m]

    # --- what is saved

    def _choose_residuals(self) -> None:
        """The carries, and arrays that an outer loop changes, are not to be had for nothing."""
        opened, loop = self.opened, self.loop
        seeds = {*self.seeds.values(), *self.sums.values()}
        roots = self.roots = up_to_date([*self.before.values(), *self.summed.values()])
        needed = read_by(roots, seeds)
        reverse = between(roots, {*seeds, *needed})
        stacks = [node for node in needed if isinstance(node.aval, StackAval) and node.primitive.name != "empty"]
        self.threads: list[Thread] = [thread_of(node, reverse) for node in stacks]
        arrays = [c for c, outer in zip(opened.captured, loop.captured, strict=True) if c.ndim and not is_unchanging(outer)]
        self.saved = to_save(needed, [*opened.carries, *arrays], {opened.i, *opened.captured}.difference(arrays))
        self.saved = [node for node in self.saved if node not in arrays]  # rather had from outside as they are

    def _saver(self, stacks: list[Node]) -> Node:
        """The loop with what it saves on `stacks`, after the carries that it has anyway."""
        loop, opened = self.loop, self.opened
        inputs = [stand_in(stack) for stack in stacks]
        passing = {thread.start: stand_in(thread.start) for thread in self.threads}
        pushed = [call("push", s, node) for s, node in zip(inputs, self.saved, strict=True)]
        roots = up_to_date([*opened.results, *pushed, *(thread.filled for thread in self.threads)])
        roots = exchanged(roots, {**passing, **{s: s for s in inputs}})
        results, more = roots[: loop.carries], roots[loop.carries :]
        parts = [Part(c, init, r) for c, init, r in zip(opened.carries, loop.init, results, strict=True)]
        outer = [empty_stack(thread.start.params["aval"]) for thread in self.threads]
        new = zip([*inputs, *passing.values()], [*stacks, *outer], more, strict=True)
        parts += [Part(*three) for three in new]
        if len(parts) == loop.carries:
            return loop.node
        captured = dict(zip(opened.captured, loop.captured, strict=True))
        node = new_loop(loop.trip, opened.i, parts, captured, opened.asked)
        extend(loop.node, node)
        return node

    def _count(self, saver: Node) -> Node:
        trip = self.loop.trip
        if self.loop.test is None:  # rather than the loop's own count: from the bound it can be had again for nothing
            known = constant_value(trip)
            return call("maximum", trip, full(0, INDEX)) if known is None else constant(max(int(known), 0), np.int64)
        return get(saver, len(saver.aval.parts) - 1)  # type: ignore[attr-defined]

    # --- the loop back

    def _reverse(self, starts: dict, sums: dict, filled: list[Node], count: Node) -> Node:
        opened = self.opened
        r, steps = fresh_input(INDEX), fresh_input(INDEX)
        stacks = [stand_in(node) for node in filled]
        known: dict[Node, Node] = {opened.i: (steps - full(1, INDEX)) - r}
        left = []
        for node, stack in zip(self.saved, stacks, strict=False):
            popped = call("pop", stack)
            known[node] = get(popped, 1)
            left.append(get(popped, 0))
        for thread, stack in zip(self.threads, stacks[len(self.saved) :], strict=True):
            known[thread.filled] = stack
            left.append(thread.left)
        roots = exchanged([*self.roots, *left], known)
        lost = set(opened.carries).intersection(between(roots, ()))
        if lost:
            raise InternalError("the derivative of a loop reads what was not saved", self.loop.node.where)
        inputs = [*self.seeds.values(), *self.sums.values(), *stacks]
        init = [*(starts[k] for k in self.seeds), *(sums[m] for m in self.sums), *filled]
        parts = [Part(*three) for three in zip(inputs, init, roots, strict=True)]
        captured = dict(zip(opened.captured, self.loop.captured, strict=True)) | {steps: count}
        return new_loop(count, r, parts, captured, None)

    def _totals(self, reverse: Node) -> list[Node | None]:
        totals, loop = self.totals, self.loop
        for place, k in enumerate(self.seeds):
            share = get(reverse, place)
            if k in self.vanish:
                assume_may_vanish(share)
            if self.wants_init[k]:
                totals[1 + k] = added(totals[1 + k], share)
        for place, m in enumerate(self.sums, start=len(self.seeds)):
            whole = get(reverse, place)
            if m in self.sums_vanish:
                assume_may_vanish(whole)
            totals[1 + loop.carries + m] = whole
        return totals
