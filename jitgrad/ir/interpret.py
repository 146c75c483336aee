"""Runs a graph with NumPy, node by node: the oracle of the tests, and what answers a first small call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InternalError, JitgradError, UsageIndexError, UsageValueError
from .body import Body
from .graph import Graph
from .node import Node
from .primitive import Control, Structure

_STRUCTURED = (Control, Structure)

_KEPT_ELEMENTS = 1 << 18
"""Elements, over all nodes, up to which every value is kept until the end: finding out which may go costs more."""


def run(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of `graph` for `arrays` in place of its inputs, as fresh C-contiguous arrays.

    `arrays` have the inputs' shapes and dtypes. No floating-point warnings are emitted.
    Raises UsageIndexError for an index outside the array that it points into.

    >>> from jitgrad.ir.aval import aval_of
    >>> from jitgrad.ir.node import fresh_input, interning
    >>> with interning():
    ...     x = fresh_input(aval_of((3,), "f8"))
    ...     graph = Graph((x,), (1.0 / x,))
    >>> run(graph, [np.array([0.0, 1.0, 2.0])])
    [array([inf, 1. , 0.5])]
    """
    for node, array in zip(graph.inputs, arrays, strict=True):
        if array.shape != node.shape or array.dtype != node.dtype:
            raise InternalError(
                f"input of {node.aval} got shape {array.shape}, dtype {array.dtype}", node.where
            )
    return _fresh(_values(graph, arrays), arrays)


def run_body(body: Body, operands: Sequence) -> list:
    """The outputs of a loop's or branch's body: arrays, or stacks as linked lists."""
    return _values(body.graph, operands)


def _values(graph: Graph, arrays: Sequence) -> list:
    values: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
    dying = _last_uses(graph) if sum([node.aval.size for node in graph.nodes]) > _KEPT_ELEMENTS else {}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node in values:
                continue
            values[node] = evaluate(node, [values[operand] for operand in node.operands])
            if dying:
                for operand in dying.get(node, ()):
                    del values[operand]
    return [values[node] for node in graph.outputs]


def _last_uses(graph: Graph) -> dict[Node, list[Node]]:
    """For each node, the operands that nobody reads after it."""
    kept = set(graph.outputs)
    dying: dict[Node, list[Node]] = {}
    for node in reversed(graph.nodes):
        last = [operand for operand in dict.fromkeys(node.operands) if operand not in kept]
        if last:
            dying[node] = last
            kept.update(last)
    return dying


def evaluate(node: Node, operands: list) -> Any:
    """The value of one node: an array, a tuple for one that has several results, or a stack as a linked list."""
    try:
        result = node.primitive.reference(*operands, **node.params)
        if isinstance(node.primitive.code, _STRUCTURED):
            return result
        result = np.asarray(result)
    except JitgradError:  # from inside a loop or a branch
        raise
    except IndexError:
        raise index_error(node, operands) from None
    except ValueError as error:  # integers to negative integer powers
        raise UsageValueError(f"np.{node.primitive.name}: {error}", None, node.where) from None
    aval = node.aval
    if result.shape != aval.shape or (result.dtype is not aval.dtype and result.dtype != aval.dtype):
        found = f"{result.dtype} of shape {result.shape}"
        raise InternalError(f"{node.primitive.name} gave {found} where {aval} is declared", node.where)
    return result


def index_error(node: Node, operands: Sequence[np.ndarray]) -> Exception:
    """The error for the first index outside, of a gather or scatter_add with these operand values."""
    array, *rest = operands
    indices = rest if node.primitive.name == "gather" else rest[1:]
    for axis, index in enumerate(indices):
        size = array.shape[axis]
        outside = (index < -size) | (index >= size)
        if outside.any():
            wrong = int(index[outside].flat[0])
            return UsageIndexError(
                f"index {wrong} is out of bounds for axis {axis} with size {size}",
                "Indices count from 0, or from the end if negative.",
                node.where,
            )
    return InternalError(f"{node.primitive.name} failed on indices that are inside", node.where)


def _fresh(results: list[np.ndarray], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results as arrays that share memory with nothing."""
    seen = {id(array) for array in arrays}
    fresh = []
    for result in results:
        owned = result.base is None and result.flags.c_contiguous and result.flags.writeable
        if not owned or id(result) in seen:
            result = result.copy(order="C")
        seen.add(id(result))
        fresh.append(result)
    return fresh
