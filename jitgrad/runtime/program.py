"""One traced function with what it needs to run: its graph, its guards, and which tier answers a call."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import tree
from ..config import Options
from ..errors import Limitation
from ..frontend.function import Output, Traced
from ..frontend.guards import Guards
from ..ir import interpret
from ..ir.body import Body
from ..ir.graph import Graph
from ..ir.node import Node, constant_value, interning
from ..ir.primitive import Control
from .compile import compile_graph
from .executable import Executable
from .signature import Signature, layout_of

TIERS = ("auto", "compile", "interpret")

INTERPRET_BELOW = 4_000_000
"""Elements computed, over all nodes, up to which the first call is interpreted: some milliseconds, less than a compile
takes."""

_ELEMENTS_PER_NODE = 2_000
_NODES_PER_CALL = 2_000
_UNKNOWN_STEPS = 1_000  # of a loop whose bound is found out at run time

_NATIVE_ITEMSIZE = 8  # longdouble has no native code


class Runner:
    """Computes a graph's outputs: by the interpreter at first, if the tier says so, then by compiled code."""

    __slots__ = ("graph", "layouts", "tier", "threads", "executable", "asked", "_lock")

    def __init__(self, graph: Graph, layouts: Sequence, tier: str, threads: int | None):
        self.graph, self.layouts, self.tier, self.threads = graph, tuple(layouts), tier, threads
        self.executable: Any = None
        self.asked = 0  # calls that the interpreter has answered
        self._lock = threading.Lock()

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs, in memory of their own."""
        executable = self.executable
        if executable is None:
            executable = self._choose()
        return executable(*arrays)

    def interpret(self, *arrays: np.ndarray) -> list[np.ndarray]:
        return interpret.run(self.graph, arrays)

    def _choose(self):
        with self._lock:  # one executable for all threads: what was made from it must not outlive it
            return self.executable or self._chosen()

    def _chosen(self):
        if self.tier == "auto" and self.asked < interpreted_calls(self.graph):
            self.asked += 1
            return self.interpret
        if self.tier == "interpret" or not _has_native_code(self.graph):
            self.executable = self.interpret
        else:
            self.executable = self._compile()
        return self.executable

    def _compile(self):
        layouts = None if all(layout is None for layout in self.layouts) else self.layouts
        try:
            with interning(self.graph.nodes):
                return compile_graph(self.graph, layouts, self.threads)
        except Limitation:
            if self.tier == "compile":
                raise
            return self.interpret


def interpreted_calls(graph: Graph) -> int:
    """How many calls are interpreted before a compile pays (tier "auto"): one, or none if there is much to compute.

    Of thousands of nodes on small arrays (a loop over data, unrolled) compiling takes as long as some hundred
    interpreted calls and holds up the first results, so it waits for one more call per so many nodes.
    """
    count = len(graph.nodes)
    if work(graph) > max(INTERPRET_BELOW, count * _ELEMENTS_PER_NODE):
        return 0
    return 1 + count // _NODES_PER_CALL


def work(graph: Graph) -> int:
    """Elements that the graph computes, over all nodes; an operation in a loop counts as many, interpreted as it would be."""
    return sum([_work_of_control(n) if isinstance(n.primitive.code, Control) else n.aval.size or 1 for n in graph.nodes])


def _work_of_control(node: Node) -> int:
    bodies = [value.graph for value in node.params.values() if isinstance(value, Body)]
    steps = 1
    if node.primitive.name == "loop":
        bound = constant_value(node.operands[0])
        steps = _UNKNOWN_STEPS if bound is None or node.params["test"] is not None else int(bound)
    return max(steps, 0) * sum(work(body) + _ELEMENTS_PER_NODE * len(body.nodes) for body in bodies)


def _has_native_code(graph: Graph) -> bool:
    return all(node.aval.dtype.itemsize <= _NATIVE_ITEMSIZE for node in (*graph.inputs, *graph.nodes))


class Program:
    """What one signature's calls run.

    `native`, once the graph is compiled, is a builtin that takes the leaves of the arguments, then the captured arrays,
    and gives the outputs, or NotImplemented when its arguments are not those it was made for.
    """

    __slots__ = (
        "guards", "runner", "output", "options", "plain", "scalars", "single", "repeatable",
        "decisions", "native", "structure", "read", "kinds", "unguarded", "direct", "settled",
    )  # fmt: skip

    def __init__(
        self, traced: Traced, call: Signature, plain: tuple | None, options: Options, tier: str, threads: int | None
    ):
        layouts = (*call.layouts, *(layout_of(array) for array in traced.guards.ready_arrays()))
        self.runner = Runner(traced.graph, layouts, tier, threads)
        self.guards: Guards = traced.guards
        self.output: Output = traced.output
        self.options, self.plain = options, plain
        self.repeatable = traced.repeatable
        self.decisions = traced.decisions
        given = traced.graph.outputs[:-1] if traced.decisions else traced.graph.outputs
        self.scalars = tuple(k for k, node in enumerate(given) if node.aval.shape == ())
        self.single = traced.output.places == (0,) and traced.output.structure.is_leaf()
        self.native: Any = None
        self.structure, self.kinds = call.structure, call.kinds
        self.read: tree.Reader | None = None  # of the positional arguments
        self.unguarded = traced.guards.are_none()
        self.direct = self.single or is_flat_tuple(traced.output)
        self.settled = call.kinds is None or bool(traced.decisions)

    def fast(self, args: tuple, kwargs: dict) -> Any:
        """The result, by the native function alone; NotImplemented where the long way must be gone."""
        native = self.native
        if native is None:
            return NotImplemented
        leaves: Sequence = args
        if self.plain is None or kwargs:
            found = self._leaves(args, kwargs)
            if found is None:
                return NotImplemented
            leaves = found
        if self.unguarded:
            result = native(*leaves)
        else:
            captured = self.guards.current()
            if captured is None:
                return NotImplemented
            result = native(*leaves, *captured)
        if self.direct or result is NotImplemented:
            return result
        return self.output.build(result if len(self.runner.graph.outputs) > 1 else (result,))

    def _decides_the_same(self, arrays: Sequence[np.ndarray]) -> bool:
        graph = self.runner.graph
        return bool(interpret.run(Graph(graph.inputs, graph.outputs[-1:]), arrays)[0])

    def _leaves(self, args: tuple, kwargs: dict) -> list | None:
        """The leaves of arguments in the containers that the program was made for; None for others."""
        leaves: list = []
        if self.read is not None and not kwargs:
            return leaves if self.read(args, leaves) else None
        leaves, structure = tree.flatten((args, kwargs))
        return leaves if structure == self.structure else None

    def _settle(self) -> None:
        """Makes the native function, once there is compiled code and everything lies in C order."""
        runner = self.runner
        if type(runner.executable) is not Executable or self.kinds is None:
            return
        self.settled = True
        captured = len(runner.graph.inputs) - len(self.kinds)
        if runner.graph.outputs and all(layout is None for layout in runner.layouts):
            positional, keywords = self.structure.children()
            self.read = tree.reader(positional) if keywords.num_children == 0 else None
            self.native = runner.executable.native([*self.kinds, *[np.ndarray] * captured])

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
        """The function's result; `arrays` are the arguments' and the captured ones. `MISMATCH` where these would have
        decided otherwise."""
        if self.decisions:
            try:
                outputs = self.runner(arrays)
            except Exception:
                if not self._decides_the_same(arrays):
                    return MISMATCH  # an error on a way that is not gone is none
                raise
            if not outputs.pop():
                return MISMATCH
        else:
            outputs = self.runner(arrays)
        if not self.settled:
            self._settle()
        if self.single:
            output = outputs[0]
            return output[()] if self.scalars else output
        for k in self.scalars:
            outputs[k] = outputs[k][()]
        return self.output.build(outputs)


MISMATCH: Any = object()


def is_flat_tuple(output: Output) -> bool:
    """Whether the function returned a tuple of all outputs in order, several of them."""
    count = len(output.places)
    return count > 1 and output.places == tuple(range(count)) and output.structure == tree.flatten((0,) * count)[1]


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
