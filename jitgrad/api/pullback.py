"""`vjp` outside of a trace: one program computes the output and what its pullback needs, another is the pullback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import tree
from ..config import config
from ..errors import UsageTypeError, UsageValueError
from ..frontend.array import Array
from ..frontend.function import Output
from ..frontend.trace import capture, current
from ..ir.aval import Aval, StackAval, TupleAval
from ..ir.graph import Graph, depends_on, is_input, substitute, topological
from ..ir.node import Node, fresh_input
from ..ir.primitive import Index, View
from ..runtime.program import Runner
from .function import Function
from .inline import Reverse, matched_nodes, reverse


class Vjp(Function):
    """A function's output and pullback."""

    def __init__(self, function: Callable, has_aux: bool, tier: str, threads: int | None):
        self.has_aux = has_aux
        super().__init__(function, tier, threads)

    def options(self) -> tuple:
        return self.has_aux, self.tier, self.threads

    def transformed(self, own: bool, args: tuple, kwargs: dict) -> Any:
        run = reverse(self.__wrapped__, own, args, self.has_aux)
        if not own:
            return run.inline()
        residuals, backward = split(run, self.tier, self.threads or config.threads)
        output = tree.unflatten(run.structure, map(Array, run.outputs))
        return output, run.aux, list(map(Array, residuals)), backward

    def __call__(self, *primals):
        """(output, pullback, aux)"""
        if current() is not None:
            return self.transformed(False, primals, {})
        output, aux, residuals, backward = self._dispatcher(self, primals, {})
        return output, Pullback(self.name, backward, [np.asarray(residual) for residual in residuals]), aux


@dataclass(frozen=True, eq=False)
class Backward:
    """The graph from residuals and cotangents to the primals' cotangents, and how the containers are built."""

    graph: Graph
    runner: Runner
    output: Any
    output_avals: tuple[Aval, ...]
    primals: Output
    used: tuple[int, ...]  # the outputs whose cotangents matter


def split(run: Reverse, tier: str, threads: int | None) -> tuple[list[Node], Backward]:
    """What the pullback needs of the forward run, and the pullback's graph."""
    used = tuple(k for k, node in enumerate(run.outputs) if node.aval.dtype.kind == "f")
    cotangents = {k: fresh_input(run.outputs[k].aval) for k in used}
    results = run.cotangents_of_primals([cotangents.get(k) for k in range(len(run.outputs))])
    residuals = needed_residuals(results, list(cotangents.values()))
    inputs = [fresh_input(node.aval) for node in residuals]
    outputs = substitute(results, dict(zip(residuals, inputs, strict=True)))
    distinct = {node: k for k, node in enumerate(dict.fromkeys(outputs))}
    places = tuple(distinct[node] for node in outputs)
    graph = Graph((*inputs, *cotangents.values()), tuple(distinct))
    runner = Runner(graph, [None] * len(graph.inputs), tier, threads)
    avals = tuple(node.aval for node in run.outputs)
    primals = Output(run.primals.structure, places, (None,) * len(places))
    return residuals, Backward(graph, runner, run.structure, avals, primals, used)


def needed_residuals(results: Sequence[Node], cotangents: Sequence[Node]) -> list[Node]:
    """The nodes that do not depend on the cotangents but are read by nodes that do.

    Views are not kept but made again from what they are views of: a broadcast is larger than its operand. Stacks of loops
    cannot be kept: the loop that fills them is run again.
    """
    later = depends_on(results, cotangents)
    kept: dict[Node, None] = {}
    todo = [result for result in results if result not in later]
    for node in topological(results):
        if node in later:
            todo += [operand for operand in node.operands if operand not in later]
    while todo:
        node = todo.pop()
        again = isinstance(node.aval, (StackAval, TupleAval))
        if again or isinstance(node.primitive.code, (View, Index)) or not (node.operands or is_input(node)):
            todo += node.operands
        else:
            kept[node] = None
    return list(kept)


class Pullback:
    """Maps cotangents of a function's output to cotangents of its primals; may be called any number of times.

    It owns what it needs of the forward run: later changes of the primals do not matter.
    """

    def __init__(self, name: str, backward: Backward, residuals: list[np.ndarray]):
        self.name, self._backward, self._residuals = name, backward, residuals

    def __call__(self, cotangents):
        """The primals' cotangents: a tuple with one entry per primal, in the primals' containers."""
        if current() is not None:
            return self._inline(cotangents)
        given = self._checked(cotangents)
        outputs = self._backward.runner([*self._residuals, *given])
        leaves = [output[()] if output.shape == () else output for output in outputs]
        return self._backward.primals.build(leaves)

    def _inline(self, cotangents):
        backward = self._backward
        nodes = matched_nodes(cotangents, backward.output, backward.output_avals, "cotangents", "output")
        actual = [capture(residual) for residual in self._residuals] + [nodes[k] for k in backward.used]
        found = substitute(backward.graph.outputs, dict(zip(backward.graph.inputs, actual, strict=True)))
        places = (place for place in backward.primals.places if place is not None)
        return tree.unflatten(backward.primals.structure, [Array(found[place]) for place in places])

    def _checked(self, cotangents) -> list[np.ndarray]:
        """The cotangents as arrays of the outputs' shapes and dtypes."""
        backward = self._backward
        leaves, structure = tree.flatten(cotangents)
        if structure != backward.output:
            raise UsageTypeError(
                f"cotangents are not built like the output of {self.name}: "
                f"{structure} in place of {backward.output}".replace("PyTreeSpec", ""),
                "Pass cotangents in the same containers as the output.",
            )
        return [self._checked_leaf(leaves[k], k) for k in backward.used]

    def _checked_leaf(self, leaf, k: int) -> np.ndarray:
        aval = self._backward.output_avals[k]
        if isinstance(leaf, (int, float)) and aval.shape == ():
            return np.asarray(leaf, aval.dtype)
        if not isinstance(leaf, (np.ndarray, np.generic)):
            raise UsageTypeError(f"{self._name_of(k)} is a {type(leaf).__name__}, not an array")
        if leaf.shape != aval.shape:
            raise UsageValueError(f"{self._name_of(k)} has shape {leaf.shape} where {aval.shape} is needed")
        if leaf.dtype != aval.dtype:
            raise UsageTypeError(f"{self._name_of(k)} has dtype {leaf.dtype} where {aval.dtype} is needed")
        return np.require(np.asarray(leaf), aval.dtype, ["C", "A"])

    def _name_of(self, k: int) -> str:
        return tree.leaf_names(self._backward.output, "cotangents")[k]

    def __repr__(self) -> str:
        return f"<pullback of {self.name}>"
