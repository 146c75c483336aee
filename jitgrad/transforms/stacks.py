"""Derivatives of pushing and popping: each is the transpose of the other.

The cotangent of a stack is a stack of cotangents, as high as it: where nothing flows, zeros lie on it.
"""

from __future__ import annotations

from ..ir.aval import Aval, StackAval
from ..ir.body import empty_stack
from ..ir.control import get
from ..ir.node import Node, call, full


def zeros(aval: Aval) -> Node:
    """The cotangent or tangent through which nothing flows, for loops, where it must be there all the same."""
    return empty_stack(aval.element) if isinstance(aval, StackAval) else full(0, aval)


def added(total: Node | None, share: Node) -> Node:
    return share if total is None else total + share


def push_jvp(tangents, primals, out):
    stack, value = (zeros(p.aval) if t is None else t for t, p in zip(tangents, primals, strict=True))
    return call("push", stack, value)


def push_pull(cotangent, totals, wanted, out):
    top = call("pop", cotangent)
    return [get(top, 0), added(totals[1], get(top, 1)) if wanted[1] else None]


def pop_jvp(tangents, primals, out):
    popped = call("pop", tangents[0])
    return {0: get(popped, 0), 1: get(popped, 1)}


def pop_pull(cotangents, totals, wanted, out):
    rest, value = (cotangents.get(part) or zeros(aval) for part, aval in enumerate(out.aval.parts))
    return [call("push", rest, value)]


def get_jvp(tangents, primals, out, *, part):
    return tangents[0].get(part)


def get_pull(cotangent, totals, wanted, out):
    parts = dict(totals[0] or {})
    part = out.params["part"]
    parts[part] = added(parts.get(part), cotangent)
    return [parts]
