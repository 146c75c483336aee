"""Graph to graph, last step before fusion: afterwards every view is strided and every output has memory of its own."""

from __future__ import annotations

from ..ir.body import is_constant
from ..ir.graph import Graph, with_operands
from ..ir.node import CONSTANT, Node, apply, full
from ..ir.primitive import Control, Gather, Leaf, Library, Reduce, ScatterAdd, Structure, View
from ..ops.cast import COPY
from .access import Accesses, contiguous_strides, view_base

MANY_TIMES = 8  # reads of each element of a scattered array that are worth a copy of it


def legalize(graph: Graph, layouts: dict[Node, tuple[int, ...]]) -> Graph:
    """Copies put in where a view cannot be had by strides, or is read for many rows and not in one piece, and where an
    output is an input, a view, or another output."""
    accesses = Accesses(layouts)
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        changed = _nothing(with_operands(node, done))
        if isinstance(node.primitive.code, View) and (accesses.of(changed) is None or _repeats_scattered(changed, accesses)):
            changed = apply(node.primitive, apply(COPY, changed.operands[0]), **node.params)
        done[node] = _with_constants_in_memory(_in_one_piece(changed, accesses))
    outputs: list[Node] = []
    for output in graph.outputs:
        output = done[output]
        while isinstance(output.primitive.code, Leaf | View) or output in outputs:
            output = apply(COPY, output)
        outputs.append(output)
    return Graph(graph.inputs, tuple(outputs))


def _repeats_scattered(node: Node, accesses: Accesses) -> bool:
    """Whether `node` reads, again and again, elements that do not lie side by side (a column, for each of many rows):
    gathered once, they are read by whole vectors."""
    if node.primitive.name != "broadcast" or not isinstance(node.operands[0].primitive.code, View):
        return False
    access = accesses.of(node.operands[0])
    if access is None or access.base.primitive is CONSTANT or node.aval.size < MANY_TIMES * node.operands[0].aval.size:
        return False
    steps = [stride for extent, stride in zip(access.shape, access.strides, strict=True) if extent != 1]
    return bool(steps) and steps[-1] not in (0, 1)


def _in_one_piece(node: Node, accesses: Accesses) -> Node:
    """`node`; a loop or branch with copies of the arrays that do not lie in C order."""
    if not isinstance(node.primitive.code, Control):
        return node
    copies = {}
    for operand in node.operands:
        if is_constant(operand) or not operand.aval.shape and not isinstance(operand.primitive.code, View):
            continue
        access = accesses.of(operand)
        if access is None or (access.strides != contiguous_strides(access.shape) and access.shape):
            copies[operand] = apply(COPY, operand)
    return with_operands(node, copies) if copies else node


def _with_constants_in_memory(node: Node) -> Node:
    """`node`; where it reads memory (a routine its operands, a gather its array), constants are copied there first."""
    code = node.primitive.code
    reads = node.operands if isinstance(code, Library) else node.operands[:1] if isinstance(code, Gather) else ()
    copies = {operand: apply(COPY, operand) for operand in reads if view_base(operand).primitive is CONSTANT}
    return with_operands(node, copies) if copies else node


def _nothing(node: Node) -> Node:
    """`node`, but what loops over no elements as a constant: zeros of no elements, or what a reduction starts from."""
    if not node.operands:
        return node
    name, code = node.primitive.name, node.primitive.code
    if isinstance(code, Structure | Control):
        return node
    if node.aval.size == 0:
        return full(0, node.aval)
    if isinstance(code, Reduce) and node.operands[0].aval.size == 0:
        return full(code.identity(node.dtype), node.aval)
    if isinstance(code, ScatterAdd) and node.operands[1].aval.size == 0:
        return node.operands[0]
    return full(0, node.aval) if name == "matmul" and node.operands[0].aval.size == 0 else node
