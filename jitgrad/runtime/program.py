"""One traced function with what it needs to run: its graph, its guards, and which tier answers a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..config import Options
from ..errors import Limitation
from ..frontend.function import Output, Traced
from ..frontend.guards import Guards
from ..ir import interpret
from ..ir.graph import Graph
from ..ir.node import Interning, interning
from .compile import compile_graph
from .signature import Signature, layout_of

TIERS = ("auto", "compile", "interpret")

INTERPRET_BELOW = 4_000_000
"""Elements computed, over all nodes, up to which the first call is interpreted: some milliseconds, less than a compile
takes."""

_NATIVE_ITEMSIZE = 8  # longdouble has no native code


class Runner:
    """Computes a graph's outputs: by the interpreter at first, if the tier says so, then by compiled code."""

    __slots__ = ("graph", "layouts", "tier", "nodes", "executable", "asked")

    def __init__(self, graph: Graph, layouts: Sequence, tier: str, nodes: Interning | None):
        self.graph, self.layouts, self.tier, self.nodes = graph, tuple(layouts), tier, nodes
        self.executable: Any = None
        self.asked = False

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs, in memory of their own."""
        executable = self.executable
        if executable is None:
            executable = self._choose()
        return executable(*arrays)

    def interpret(self, *arrays: np.ndarray) -> list[np.ndarray]:
        return interpret.run(self.graph, arrays)

    def _choose(self):
        if self.tier == "interpret" or not _has_native_code(self.graph):
            self.executable = self.interpret
        elif self.tier == "auto" and not self.asked and work(self.graph) <= INTERPRET_BELOW:
            self.asked = True
            return self.interpret
        else:
            self.executable = self._compile()
            self.nodes = None
        return self.executable

    def _compile(self):
        layouts = None if all(layout is None for layout in self.layouts) else self.layouts
        try:
            with interning(self.nodes):
                return compile_graph(self.graph, layouts)
        except Limitation:
            if self.tier == "compile":
                raise
            return self.interpret


def work(graph: Graph) -> int:
    """Elements that the graph computes, over all nodes."""
    return sum(max(1, node.aval.size) for node in graph.nodes)


def _has_native_code(graph: Graph) -> bool:
    return all(node.aval.dtype.itemsize <= _NATIVE_ITEMSIZE for node in (*graph.inputs, *graph.nodes))


class Program:
    """What one signature's calls run.

    `native`, where there is one, is a callable that takes the call's own arguments and returns the result, or
    NotImplemented when the arguments are not those it was made for; it is asked first.
    """

    __slots__ = ("guards", "runner", "output", "options", "plain", "native", "scalars", "single", "repeatable")

    def __init__(self, traced: Traced, call: Signature, plain: tuple | None, options: Options, tier: str):
        layouts = (*call.layouts, *(layout_of(array) for array in traced.guards.ready_arrays()))
        self.runner = Runner(traced.graph, layouts, tier, traced.nodes)
        self.guards: Guards = traced.guards
        self.output: Output = traced.output
        self.options, self.plain = options, plain
        self.native: Any = None
        self.repeatable = traced.repeatable
        self.scalars = tuple(k for k, node in enumerate(traced.graph.outputs) if node.aval.shape == ())
        self.single = traced.output.places == (0,) and traced.output.structure.is_leaf()

    def match(self, args: tuple) -> list | None:
        """The inputs' arrays if `args` are plain arrays and floats exactly as the program was made for."""
        plain = self.plain
        if plain is None or len(args) != len(plain):
            return None
        arrays = []
        for argument, wanted in zip(args, plain):  # noqa: B905  (lengths were compared)
            if wanted is None:
                if type(argument) is not float:
                    return None
                arrays.append(np.array(argument))
            elif (
                type(argument) is np.ndarray
                and argument.shape == wanted[0]
                and argument.dtype is wanted[1]
                and argument.strides == wanted[2]
                and argument.flags.aligned
            ):
                arrays.append(argument)
            else:
                return None
        return arrays

    def run(self, arrays: Sequence[np.ndarray]) -> Any:
        """The function's result; `arrays` are the arguments' and the captured ones."""
        outputs = self.runner(arrays)
        if self.single:
            output = outputs[0]
            return output[()] if self.scalars else output
        for k in self.scalars:
            outputs[k] = outputs[k][()]
        return self.output.build(outputs)


def plain_arguments(args: tuple, kwargs: dict) -> tuple | None:
    """What `Program.match` compares with; None when an argument is no plain array or float."""
    if kwargs:
        return None
    found: list = []
    for argument in args:
        if type(argument) is float:
            found.append(None)
        elif type(argument) is np.ndarray and argument.dtype.isnative and argument.flags.aligned:
            found.append((argument.shape, argument.dtype, argument.strides))
        else:
            return None
    return tuple(found)
