"""Checks that a graph is well formed: tests run it after every pass."""

from __future__ import annotations

import numpy as np

from ..errors import InternalError, JitgradError
from .body import Body
from .graph import Graph
from .node import CONSTANT, INPUT, Node
from .primitive import PRIMITIVES


def verify(graph: Graph, after: str = "") -> Graph:
    """`graph` itself, or an InternalError that names the first node that is wrong (`after` which pass).

    >>> from jitgrad.ir.aval import aval_of
    >>> from jitgrad.ir.node import fresh_input
    >>> x = fresh_input(aval_of((3,), "f8"))
    >>> verify(Graph((x,), (x,))).outputs
    (<input f64[3]>,)
    """
    inputs = set(graph.inputs)
    if len(inputs) != len(graph.inputs):
        raise _wrong(graph.inputs[0], "the same input twice", after)
    for node in graph.inputs:
        if node.primitive is not INPUT:
            raise _wrong(node, "an input that is no leaf", after)
    seen: set[Node] = set()
    for node in graph.nodes:
        _check_node(node, inputs, seen, after)
        seen.add(node)
    return graph


def _check_node(node: Node, inputs: set[Node], seen: set[Node], after: str) -> None:
    primitive = node.primitive
    if PRIMITIVES.get(primitive.name) is not primitive:
        raise _wrong(node, "not a declared primitive", after)
    if primitive is INPUT:
        if node not in inputs:
            raise _wrong(node, "an input that the graph does not list", after)
        return
    if any(operand not in seen for operand in node.operands):
        raise _wrong(node, "an operand that comes later", after)
    if primitive is CONSTANT:
        value = node.params["value"]
        if node.aval.shape or not isinstance(value, np.generic) or value.dtype != node.dtype:
            raise _wrong(node, f"constant {value!r} does not fit", after)
        return
    for name, value in node.params.items():
        if isinstance(value, Body):
            verify(value.graph, after)
            continue
        if not _is_plain(value):
            raise _wrong(node, f"parameter {name}={value!r} is not hashable by value", after)
    try:
        aval = primitive.aval(*[operand.aval for operand in node.operands], **node.params)
    except JitgradError as error:
        raise _wrong(node, error.what, after) from None
    if aval != node.aval:
        raise _wrong(node, f"its operands give {aval}", after)


def _is_plain(value) -> bool:
    """Whether `value` is hashable by value: no NumPy numbers, and no bools, which equal ints."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is tuple:
            stack.extend(item)
        elif type(item) not in (int, float, str) and not isinstance(item, np.dtype):
            try:
                hash(item)
            except TypeError:
                return False
            if isinstance(item, (bool, np.generic)):
                return False
    return True


def _wrong(node: Node, what: str, after: str) -> InternalError:
    when = f" after {after}" if after else ""
    return InternalError(f"graph is malformed{when}: {node!r}: {what}", node.where)
