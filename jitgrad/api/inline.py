"""The derivatives of a Python function inside a trace: from traced arrays to traced arrays.

Each makes fresh inputs for what is differentiated, runs the function on them, walks the nodes that came out, and puts
the actual nodes in the place of the fresh inputs. A derivative flows only from the fresh inputs, so nested
derivatives cannot be taken for one another. `own` says that the arguments are fresh inputs already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import tree
from ..errors import Location, UsageError, UsageTypeError, UsageValueError
from ..frontend.array import Array
from ..frontend.calls import unwatched
from ..frontend.convert import as_array, cast
from ..frontend.lift import lifted
from ..frontend.trace import capture, check_alive, end_inputs, stand_for
from ..ir.aval import Aval
from ..ir.body import moved, up_to_date
from ..ir.node import Node, constant, fresh_input, full
from ..transforms import forward
from ..transforms import reverse as backward

pushforward, pullback = unwatched(forward.pushforward), unwatched(backward.pullback)


def called(function: Callable) -> str:
    """How messages call the function."""
    return getattr(function, "__name__", None) or type(function).__name__


def defined_at(function: Callable) -> Location | None:
    """The line of the function's `def`."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return None if code is None else Location(code.co_filename, code.co_firstlineno)


@dataclass(frozen=True)
class Fresh:
    """Arguments that are differentiated: `values` are traced arrays on `inputs`, which stand for `actual`."""

    values: Any
    structure: Any
    inputs: list[Node]
    actual: list[Node]
    images: dict[Node, Node] = field(default_factory=dict)

    @unwatched
    def put_back(self, nodes: Sequence[Node]) -> list[Node]:
        """`nodes`, the actual nodes in place of the fresh inputs."""
        if self.inputs == self.actual:
            return list(nodes)
        self.images.update(zip(self.inputs, self.actual, strict=True))
        return moved(up_to_date(nodes), self.images)


@unwatched
def freshened(values, own: bool, root: str, function: Callable) -> Fresh:
    """Fresh inputs for every leaf of `values`; `root` is how messages call them."""
    leaves, structure = tree.flatten(values)
    actual = [_real_node(leaf, index, structure, root, function) for index, leaf in enumerate(leaves)]
    inputs = actual if own else [fresh_input(node.aval) for node in actual]
    if not own:
        stand_for(inputs, actual)
    arrays = [Array(node, _weak(leaf)) for node, leaf in zip(inputs, leaves, strict=True)]
    return Fresh(tree.unflatten(structure, arrays), structure, inputs, actual)


def _weak(leaf) -> type | None:
    return leaf.weak if isinstance(leaf, Array) else float if type(leaf) is float else None


def _real_node(leaf, index: int, structure, root: str, function: Callable) -> Node:
    """The node of a leaf with respect to which a derivative exists."""
    is_number = isinstance(leaf, (Array, np.ndarray, np.generic, bool, int, float))
    if is_number:
        array = as_array(leaf)
        if array.dtype.kind == "f":
            return array.node
    name = tree.leaf_names(structure, root)[index]
    if is_number:
        what = f"of dtype {array.dtype}" if isinstance(leaf, (Array, np.ndarray, np.generic)) else repr(leaf)
        raise UsageTypeError(
            f"{called(function)} is differentiated with respect to {name}, which is {what}",
            "A derivative needs real floats: pass floats, e.g. 3.0 or x.astype(float), or change argnums.",
        )
    raise UsageTypeError(
        f"{called(function)} is differentiated with respect to {name}, which is a {type(leaf).__name__}",
        "A derivative needs arrays or floats: change argnums, or pass it as another argument.",
    )


def selected(function: Callable, args: tuple, argnums: tuple[int, ...]) -> list[int]:
    """argnums as positions in `args`."""
    for number in argnums:
        if not -len(args) <= number < len(args):
            raise UsageValueError(
                f"argnums has {number}, but {called(function)} is called with {len(args)} positional arguments",
                "Arguments that are differentiated are passed by position.",
            )
    positions = [number % len(args) for number in argnums]
    if len(set(positions)) != len(positions):
        raise UsageValueError(f"argnums={argnums} names an argument twice")
    return positions


def parameter_name(parameters: Sequence[str], position: int) -> str:
    return parameters[position] if position < len(parameters) else f"argument {position}"


def untied(values):
    """Traced arrays of `values` as handles of their own: a function that rebinds them changes only these."""
    return tree.map_leaves(lambda leaf: Array(leaf.node, leaf.weak) if isinstance(leaf, Array) else leaf, values)


def gradient(
    function: Callable,
    parameters: Sequence[str],
    argnums: tuple[int, ...],
    has_aux: bool,
    own: bool,
    args: tuple,
    kwargs: dict,
) -> tuple[Array, list, Any]:
    """(value, one gradient per argnum, aux) of a function with a scalar result."""
    positions = selected(function, args, argnums)
    chosen = {parameter_name(parameters, p): args[p] for p in positions}
    parts = [freshened(value, own, name, function) for name, value in chosen.items()]
    arguments = list(args) if own else list(untied(args))
    for position, part in zip(positions, parts, strict=True):
        arguments[position] = part.values
    result = lifted(function)(*arguments, **(kwargs if own else untied(kwargs)))
    value, aux = split_aux(function, result, has_aux)
    output = scalar_node(function, value)
    inputs = [node for part in parts for node in part.inputs]
    aux_nodes, build_aux = take_apart(aux)
    _returned([output, *aux_nodes], inputs, own)
    found = pullback([output], inputs, [full(1, output.aval)])
    gradients = [full(0, node.aval) if g is None else g for g, node in zip(found, inputs, strict=True)]
    together = Fresh(None, None, inputs, [node for part in parts for node in part.actual])
    output, *rest = together.put_back([output, *gradients, *aux_nodes])
    gradients, aux_nodes = rest[: len(inputs)], rest[len(inputs) :]
    trees, start = [], 0
    for part in parts:
        count = len(part.inputs)
        trees.append(tree.unflatten(part.structure, [Array(g) for g in gradients[start : start + count]]))
        start += count
    return Array(output), trees, build_aux(aux_nodes)


def _returned(outputs: Sequence[Node], inputs: Sequence[Node], own: bool) -> None:
    """The function has returned: values of inner derivatives must not be in its result, nor its own be used any more."""
    check_alive(outputs)
    if not own:
        end_inputs(inputs)


def split_aux(function: Callable, result, has_aux: bool) -> tuple[Any, Any]:
    """(value, aux) of what a function returned."""
    if not has_aux:
        return result, None
    if isinstance(result, tuple) and len(result) == 2:
        return result
    raise UsageTypeError(
        f"with has_aux=True, {called(function)} must return (value, aux), not {described(result)}",
        None,
        defined_at(function),
    )


@unwatched
def scalar_node(function: Callable, value) -> Node:
    """The node of a function's result, which must be a real scalar."""
    is_array = isinstance(value, (Array, np.ndarray, np.generic, float))
    if is_array:
        array = as_array(value)
        if array.dtype.kind == "f" and array.shape == ():
            return array.node
    advice = "grad needs a single real number, e.g. np.sum(...) of an array; for several outputs use vjp or jvp."
    where = defined_at(function)
    if is_array:
        error = UsageValueError if array.dtype.kind == "f" else UsageTypeError
        raise error(f"{called(function)} must return a real scalar, but returned {described(value)}", advice, where)
    if value is None:
        advice = "Is a return statement missing?"
    elif isinstance(value, tuple) and len(value) == 2:
        advice = "For (value, aux) pass has_aux=True; for several outputs use vjp or jvp."
    raise UsageTypeError(f"{called(function)} must return a real scalar, but returned {described(value)}", advice, where)


def described(value) -> str:
    """A value in few words."""
    if isinstance(value, (Array, np.ndarray, np.generic)):
        return f"an array of shape {value.shape}, dtype {value.dtype}" if value.shape else f"a scalar of dtype {value.dtype}"
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"a {type(value).__name__}"


def take_apart(values) -> tuple[list[Node], Callable[[Sequence[Node]], Any]]:
    """The nodes of the traced arrays in `values`, and how to build the same with other nodes."""
    leaves, structure = tree.flatten(values)
    nodes = [leaf.node for leaf in leaves if isinstance(leaf, Array)]

    def build(replaced: Sequence[Node]):
        nodes = iter(replaced)
        return tree.unflatten(
            structure, [Array(next(nodes), leaf.weak) if isinstance(leaf, Array) else leaf for leaf in leaves]
        )

    return nodes, build


def array_outputs(function: Callable, result) -> tuple[list[Node], Any]:
    """The nodes of a result that consists of arrays and numbers, and its structure."""
    leaves, structure = tree.flatten(result)
    for leaf in leaves:
        if not isinstance(leaf, (Array, np.ndarray, np.generic, bool, int, float)):
            raise UsageTypeError(
                f"{called(function)} must return arrays, but returned {described(leaf)}",
                "Return other things as aux (has_aux=True).",
                defined_at(function),
            )
    if not leaves:
        raise UsageTypeError(
            f"{called(function)} must return arrays, but returned {described(result)}",
            "Is a return statement missing?",
            defined_at(function),
        )
    return [as_array(leaf).node for leaf in leaves], structure


def directional(function: Callable, own: bool, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    """(output, tangent of the output) of a function along `tangents`."""
    part = freshened(primals, own, "primals", function)
    directions = matched_nodes(tangents, part.structure, [n.aval for n in part.actual], "tangents", "primals")
    outputs, structure = array_outputs(function, lifted(function)(*part.values))
    _returned(outputs, part.inputs, own)
    found = pushforward(outputs, part.inputs, directions)
    moved = [full(0, node.aval) if t is None else t for t, node in zip(found, outputs, strict=True)]
    nodes = part.put_back([*outputs, *moved])
    outputs, moved = nodes[: len(outputs)], nodes[len(outputs) :]
    return tree.unflatten(structure, map(Array, outputs)), tree.unflatten(structure, map(Array, moved))


def matched_nodes(values, structure, avals: Sequence[Aval], name: str, of: str) -> list[Node]:
    """The nodes of `values`, which must have the structure, shapes and dtypes of what they are tangents or cotangents of."""
    leaves, found = tree.flatten(values)
    if found != structure:
        raise UsageTypeError(
            f"{name} are not built like the {of}: {found} in place of {structure}".replace("PyTreeSpec", ""),
            f"Pass {name} in the same containers as the {of}.",
        )
    return [
        _matched_node(leaf, aval, index, structure, name)
        for index, (leaf, aval) in enumerate(zip(leaves, avals, strict=True))
    ]


def _matched_node(leaf, aval: Aval, index: int, structure, name: str) -> Node:
    weak = _weak(leaf) is not None
    if isinstance(leaf, (bool, int)) and not weak:
        leaf, weak = float(leaf), True
    if not isinstance(leaf, (Array, np.ndarray, np.generic, float)):
        raise UsageTypeError(f"{tree.leaf_names(structure, name)[index]} is a {type(leaf).__name__}, not an array")
    if weak and not isinstance(leaf, Array) and aval.shape == ():
        return constant(leaf, aval.dtype) if aval.dtype.kind == "f" else full(0, aval)
    node = as_array(leaf).node if not isinstance(leaf, np.ndarray) else capture(leaf)
    if weak and node.aval.shape == aval.shape == () and aval.dtype.kind == "f":
        return node if node.aval == aval else cast(node, aval.dtype)
    if node.aval.shape != aval.shape:
        raise UsageValueError(
            f"{tree.leaf_names(structure, name)[index]} has shape {node.aval.shape} where {aval.shape} is needed"
        )
    if aval.dtype.kind != "f":
        return full(0, aval)
    if node.aval.dtype != aval.dtype:
        raise UsageTypeError(
            f"{tree.leaf_names(structure, name)[index]} has dtype {node.aval.dtype} where {aval.dtype} is needed"
        )
    return node


def reverse(function: Callable, own: bool, primals: tuple, has_aux: bool) -> Reverse:
    """A function run forward, ready for any number of pullbacks."""
    part = freshened(primals, own, "primals", function)
    result, aux = split_aux(function, lifted(function)(*part.values), has_aux)
    outputs, structure = array_outputs(function, result)
    _returned([*outputs, *take_apart(aux)[0]], part.inputs, own)
    return Reverse(part, outputs, structure, aux)


@dataclass(frozen=True)
class Reverse:
    """A function's outputs on fresh inputs."""

    primals: Fresh
    outputs: list[Node]
    structure: Any
    aux: Any

    def cotangents_of_primals(self, cotangents: Sequence[Node | None]) -> list[Node]:
        """One cotangent per leaf of the primals, still on the fresh inputs."""
        found = pullback(self.outputs, self.primals.inputs, cotangents)
        return [full(0, n.aval) if g is None else g for g, n in zip(found, self.primals.inputs, strict=True)]

    def inline(self) -> tuple:
        """(output, pullback, aux) on the actual nodes, for use inside the trace."""
        aux_nodes, build_aux = take_apart(self.aux)
        nodes = self.primals.put_back([*self.outputs, *aux_nodes])
        outputs, aux_nodes = nodes[: len(self.outputs)], nodes[len(self.outputs) :]

        def pull_back(cotangents):
            """The cotangents of the primals for `cotangents` of the output."""
            avals = [node.aval for node in self.outputs]
            given = matched_nodes(cotangents, self.structure, avals, "cotangents", "output")
            found = self.primals.put_back(self.cotangents_of_primals(_real_only(given)))
            return tree.unflatten(self.primals.structure, map(Array, found))

        return tree.unflatten(self.structure, map(Array, outputs)), pull_back, build_aux(aux_nodes)


def _real_only(cotangents: Sequence[Node]) -> list[Node | None]:
    return [node if node.aval.dtype.kind == "f" else None for node in cotangents]


def check_primals(primals, name: str) -> tuple:
    if isinstance(primals, (tuple, list)):
        return tuple(primals)
    raise UsageError(f"{name} must be a tuple with one entry per argument, not {described(primals)}", f"Write ({name},).")
