"""Graphs as text, and back: one line per node of Python that rebuilds the graph when it runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from types import CodeType, FunctionType

import numpy as np

from ..errors import UsageValueError
from .aval import Aval, StackAval, aval_of, dtype_from_short, short_name
from .body import Body, close
from .graph import Graph
from .node import CONSTANT, INPUT, Node, apply, bits_of, constant, fresh_input
from .primitive import PRIMITIVES

COMMENT_COLUMN = 40
WIDTH = 110

_DTYPES = ("f16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool")
_AVAL = re.compile(r"(\w+)\[([\d,]*)\]")


def to_text(graph: Graph, name: str = "graph") -> str:
    """`graph` as a Python function; comments give each value's type and the user's line that made it.

    `from_text` runs the text and so gets the graph back.

    >>> from jitgrad.ir.node import call, interning
    >>> with interning():
    ...     x = fresh_input(aval_of((3,), "f8"))
    ...     text = to_text(Graph((x,), (call("sin", x),)))
    >>> print(text.splitlines()[0])
    def graph(x0: "f64[3]"):
    """
    return "\n".join(_lines(graph, name, "")) + "\n"


def _lines(graph: Graph, name: str, margin: str) -> list[str]:
    """The function `name`, after `margin`; bodies of loops and branches are functions inside it."""
    names = names_of(graph)
    lines = [margin + line for line in _signature(graph, name).split("\n")]
    inputs = set(graph.inputs)
    for node in graph.nodes:
        if node not in inputs:
            for key, body in _bodies(node):
                lines += _lines(body.graph, f"{key}_{names[node]}", margin + "    ")
            lines.append(f"{margin}    {line_of(node, names)}")
    results = ", ".join(names[node] for node in graph.outputs)
    if len(graph.outputs) == 1 and margin:
        results += ","
    lines.append(f"{margin}    return {results}" if graph.outputs else f"{margin}    return ()")
    return lines


def _bodies(node: Node) -> list[tuple[str, Body]]:
    return [(key, value) for key, value in node.params.items() if isinstance(value, Body)]


def from_text(text: str, inputs: Sequence[Node] | None = None) -> Graph:
    """The graph that a text written by `to_text` describes, its nodes made in the open interning scope.

    `inputs` are taken instead of fresh ones if given: then the nodes are those that the printed graph had, as long as
    the scope is the same. The text is executed: it must come from a source that is trusted like any other Python code.
    Raises UsageValueError for a text that defines no function, or not one of this form.

    >>> from jitgrad.ir.node import interning
    >>> with interning():
    ...     graph = from_text('def graph(x0: "f64[3]"):\\n    v1 = reduce_sum(x0, axes=(0,))\\n    return v1\\n')
    ...     graph.outputs
    (<reduce_sum f64[]>,)
    """
    function = _function(text)
    avals = _argument_avals(function)
    if inputs is None:
        inputs = [fresh_input(aval) for aval in avals]
    elif [node.aval for node in inputs] != avals:
        raise UsageValueError(f"the text wants inputs {avals}, not {[node.aval for node in inputs]}")
    result = function(*inputs)
    return Graph(tuple(inputs), result if isinstance(result, tuple) else (result,))


def _argument_avals(function: Callable) -> list[Aval]:
    avals = [read_aval(annotation) for annotation in function.__annotations__.values()]
    if len(avals) != function.__code__.co_argcount:
        raise UsageValueError("an argument has no type", 'Write it like x0: "f64[3]".')
    return avals


def _body_of(function: Callable) -> Body:
    """The body that a function inside a printed graph describes."""
    inputs = [fresh_input(aval) for aval in _argument_avals(function)]
    return close(inputs, function(*inputs))


def read_aval(text: str) -> Aval:
    """The aval that is printed as `text`: "f64[2,3]", "i64[]".

    >>> read_aval("f32[2,3]").shape
    (2, 3)
    """
    if text.endswith("*"):
        return StackAval(read_aval(text[:-1]))
    found = _AVAL.fullmatch(text)
    if found is None:
        raise UsageValueError(f"{text!r} is no type of a graph's value", 'Types are like "f64[2,3]".')
    return aval_of(tuple(int(extent) for extent in found[2].split(",") if extent), dtype_from_short(found[1]))


# --- printing


def names_of(graph: Graph) -> dict[Node, str]:
    """How a printed graph calls its nodes: inputs x0, x1, ..., the others v2, v3, ... in order."""
    names = {node: f"x{k}" for k, node in enumerate(graph.inputs)}
    for node in graph.nodes:
        if node not in names:
            names[node] = f"v{len(names)}"
    return names


def line_of(node: Node, names: dict[Node, str]) -> str:
    """`v4 = add(v2, v3)  # f64[3]  file.py:12`"""
    where = "" if node.where is None else f"  {os.path.basename(node.where.file)}:{node.where.line}"
    return f"{names[node]} = {_expression(node, names)}".ljust(COMMENT_COLUMN) + f"  # {node.aval}{where}"


def _signature(graph: Graph, name: str) -> str:
    parameters = [f'x{k}: "{node.aval}"' for k, node in enumerate(graph.inputs)]
    line = f"def {name}({', '.join(parameters)}):"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"def {name}(", *(f"    {parameter}," for parameter in parameters), "):"])


def _expression(node: Node, names: dict[Node, str]) -> str:
    if node.primitive is CONSTANT:
        return f"constant({_number(node.params['value'])}, {short_name(node.dtype)})"
    arguments = [names[operand] for operand in node.operands]
    arguments += [f"{name}={_parameter(value, f'{name}_{names[node]}')}" for name, value in node.params.items()]
    return f"{node.primitive.name}({', '.join(arguments)})"


def _parameter(value, name: str = "") -> str:
    if isinstance(value, Body):
        return name
    if isinstance(value, Aval):
        return f'"{value}"'
    if isinstance(value, np.dtype):
        return short_name(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_parameter, value)) + ("," if len(value) == 1 else "") + ")"
    return repr(value)


def _number(value: np.generic) -> str:
    """A constant such that it is read back bit by bit."""
    if value.dtype.kind in "iub":
        return str(value.item())
    for text in (str(value), repr(float(value))):
        if bits_of(np.asarray(float(text), value.dtype)[()]) == bits_of(value):
            return text
    return f'bits("{bits_of(value).hex()}")'  # nan with a sign or a payload, longdouble


# --- reading


class _Bits:
    """A number given by its bytes; takes the dtype that stands beside it."""

    def __init__(self, digits: str):
        self.raw = bytes.fromhex(digits)


def _constant(value, dtype) -> Node:
    if isinstance(value, _Bits):
        value = np.frombuffer(value.raw.ljust(dtype.itemsize, b"\0"), dtype)[0]
    return constant(value, dtype)


def _builder(name: str) -> Callable[..., Node]:
    primitive = PRIMITIVES[name]

    def build(*operands: Node, **params) -> Node:
        for key, value in params.items():
            if isinstance(value, FunctionType):
                params[key] = _body_of(value)
            elif isinstance(value, str) and key == "aval":
                params[key] = read_aval(value)
        return apply(primitive, *operands, **params)

    return build


def _namespace(names: Iterable[str]) -> dict:
    """What the text may name: the primitives it uses, dtypes, and the spellings of numbers."""
    leaves = {INPUT.name, CONSTANT.name}
    space: dict = {name: _builder(name) for name in names if name in PRIMITIVES and name not in leaves}
    space |= {short: dtype_from_short(short) for short in _DTYPES}
    longdouble = np.dtype(np.longdouble)
    return space | {
        short_name(longdouble): longdouble, "constant": _constant, "bits": _Bits, "nan": np.nan, "inf": np.inf,
    }  # fmt: skip


def _names_in(code: CodeType) -> set[str]:
    """The global names that the functions in `code` use."""
    inner = [part for part in code.co_consts if isinstance(part, CodeType)]
    return set().union(*({*part.co_names, *_names_in(part)} for part in inner))


def _function(text: str) -> Callable:
    try:
        code = compile(text, "<string>", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise UsageValueError(f"the text of a graph is no Python: {error.msg} in line {error.lineno}") from None
    space = _namespace(_names_in(code))
    before = set(space)
    exec(code, space)
    found = [value for name, value in space.items() if name not in before and callable(value)]
    if len(found) != 1:
        raise UsageValueError("the text of a graph must define one function")
    return found[0]
