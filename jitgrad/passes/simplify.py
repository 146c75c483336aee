"""Algebra that makes a graph smaller: one walk, operands first.

A rule never grows the graph and holds in IEEE arithmetic: no x*0 -> 0 (x may be nan), no x+0 -> x (x may be -0).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir.graph import Graph
from ..ir.node import Node, call, constant_value, full
from ..ir.primitive import Scalar
from ..ops import masked_product
from ..ops import shape as shapes
from .fuel import spend

Rule = Callable[[Node], Node | None]
RULES: dict[str, list[Rule]] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rewrite for nodes of these primitives: it returns a replacement, or None to leave the node."""

    def register(rewrite: Rule) -> Rule:
        for name in names:
            RULES.setdefault(name, []).append(rewrite)
        return rewrite

    return register


def simplify_node(node: Node) -> Node:
    """`node` after all rules that apply to it, its operands being simple already."""
    changed = True
    while changed:
        changed = False
        for rewrite in RULES.get(node.primitive.name, ()):
            smaller = rewrite(node)
            if smaller is not None and smaller is not node and spend():
                node, changed = smaller, True
                break
    return node


def simplify(graph: Graph) -> Graph:
    return graph.rebuild(simplify_node)


def is_full_of(node: Node, number) -> bool:
    """Whether `node` is `number` everywhere (0 means +0.0, not -0.0)."""
    value = constant_value(node)
    return value is not None and value == number and not (number == 0 and np.signbit(value))


# --- arithmetic


@rule("stop_gradient")
def derivatives_are_done(node):                        # derivatives were taken while tracing
    return node.operands[0]


@rule("multiply")
def multiply_by_unit(node):                            # x * 1 = x,  x * -1 = -x
    x, y = node.operands
    if node.dtype.kind == "b":
        return None
    for one, other in ((x, y), (y, x)):
        if is_full_of(one, 1):
            return other
        if is_full_of(one, -1):
            return call("negative", other)
    return None


@rule("divide")
def divide_by_unit(node):                              # x / 1 = x,  x / -1 = -x
    x, y = node.operands
    if is_full_of(y, 1):
        return x
    return call("negative", x) if is_full_of(y, -1) else None


@rule("subtract")
def subtract_zero(node):                               # x - (+0) = x,  x - (-y) = x + y
    x, y = node.operands
    if is_full_of(y, 0):
        return x
    return call("add", x, y.operands[0]) if _is(y, "negative") else None


@rule("add")
def add_negation(node):                                # x + (-y) = x - y,  (-x) + y = y - x,  integers: x + 0 = x
    x, y = node.operands
    if node.dtype.kind in "iu":
        if is_full_of(y, 0):
            return x
        if is_full_of(x, 0):
            return y
    if _is(y, "negative"):
        return call("subtract", x, y.operands[0])
    return call("subtract", y, x.operands[0]) if _is(x, "negative") else None


@rule("masked_product")
def unmask(node):                                      # the mask goes where its factor turns out to be a number but 0
    x, y = node.operands
    plain = masked_product(x, y, node.params["both"])
    return None if plain is node else plain


@rule("negative")
def negate_twice(node):                                # -(-x) = x
    (x,) = node.operands
    return x.operands[0] if _is(x, "negative") else None


@rule("integer_power")
def small_powers(node):                                # x^1 = x,  x^2 = x x
    (x,) = node.operands
    exponent = node.params["exponent"]
    return x if exponent == 1 else call("multiply", x, x) if exponent == 2 else None


@rule("select")
def choose_among_equals(node):                         # where(c, x, x) = x,  where(True, x, y) = x
    condition, x, y = node.operands
    if x is y:
        return x
    known = constant_value(condition)
    return None if known is None else x if known else y


_EXACT = ("add", "subtract", "multiply", "divide", "negative", "cast", "absolute", "maximum", "minimum", "masked_product")


@rule(*_EXACT)
def fold_constants(node):
    """Arithmetic on numbers is done here, where it is correctly rounded on every machine anyway."""
    values = [constant_value(operand) for operand in node.operands]
    if any(value is None for value in values):
        return None
    with np.errstate(all="ignore"):
        value = node.primitive.reference(*values, **node.params)
    return full(np.asarray(value).astype(node.dtype), node.aval)


# --- views


@rule("reshape", "broadcast", "transpose", "slice")
def merge_views(node):
    """The builders of views join neighbours; they may be neighbours only now."""
    (x,) = node.operands
    match node.primitive.name:
        case "reshape":
            return _respread(node, x) or shapes.reshape(x, **node.params)
        case "broadcast":
            return _from_inserted(node, x) or shapes.broadcast(x, **node.params)
        case "transpose":
            return _moved_units(node, x) or shapes.transpose(x, **node.params)
    return shapes.strided_slice(x, **node.params)


def _moved_units(node: Node, x: Node) -> Node | None:
    """The reshape that a transpose is which moves nothing but extents of 1."""
    moved = [axis for axis in node.params["axes"] if x.shape[axis] != 1]
    return shapes.reshape(x, node.shape) if moved == sorted(moved) else None


def _respread(node: Node, x: Node) -> Node | None:
    """The broadcast that a reshape of a broadcast is, where the reshape only puts in, or takes out, extents of 1."""
    if not _is(x, "broadcast") or constant_value(x) is not None:
        return None
    before = [axis for axis, extent in enumerate(x.shape) if extent != 1]
    after = [axis for axis, extent in enumerate(node.shape) if extent != 1]
    if [x.shape[axis] for axis in before] != [node.shape[axis] for axis in after]:
        return None
    (inner,) = x.operands
    place = dict(zip(before, after, strict=True))
    kept = [(axis, extent) for axis, extent in zip(x.params["axes"], inner.shape, strict=True) if extent != 1]
    smaller = shapes.reshape(inner, [extent for _, extent in kept])
    return shapes.broadcast(smaller, node.shape, [place[axis] for axis, _ in kept])


def _from_inserted(node: Node, x: Node) -> Node | None:
    """The broadcast of what is under x, where x is a reshape that puts in extents of 1 (as keepdims does)."""
    if not _is(x, "reshape") or node.shape == x.shape:
        return None
    inner = x.operands[0]
    kept = [axis for axis, extent in enumerate(x.shape) if extent != 1]
    if inner.shape != tuple(x.shape[axis] for axis in kept):
        return None
    axes = node.params["axes"]
    return shapes.broadcast(inner, node.shape, [axes[axis] for axis in kept])


def _is(node: Node, name: str) -> bool:
    return node.primitive.name == name


def is_arithmetic(node: Node) -> bool:
    """Whether `node` is computed place by place from operands of its shape."""
    return isinstance(node.primitive.code, Scalar)


