"""Random programs through the compiler and through the interpreter: do they agree?

    python bench/fuzz.py --minutes 10 --seed 0        # many programs; prints each disagreement, shrunk
    python bench/fuzz.py --only 4711                  # one seed again

What is compared, per element:
- the graph after the passes against the graph before, both interpreted;
- the compiled graph against the interpreted one;
- for half of the programs the same for a graph of derivatives: tangents (jvp), cotangents (vjp), and whether
  <cotangent, tangent of output> = <cotangent of input, tangent>.

How much may differ is measured, not guessed: the interpreter runs again with each inexact result (sums: relative to the
sum of the terms' magnitudes) moved by some units in the last place at random (J. Vignes: A stochastic arithmetic
for reliable scientific computation. Mathematics and Computers in Simulation 35, 1993). What does not move must be equal
bit by bit, but for the sign of nan and of sums of zeros.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jitgrad
from bench.numpy_programs import Function, random_function
from bench.programs import Program, layout_of, random_program
from jitgrad.errors import Limitation, UsageError
from jitgrad.ir import interpret
from jitgrad.ir.graph import Graph, with_operands
from jitgrad.ir.node import Node, fresh_input, interning
from jitgrad.ir.text import to_text
from jitgrad.ir.verify import verify
from jitgrad.lowering import sweeps
from jitgrad.passes import short_axes
from jitgrad.passes.pipeline import optimize
from jitgrad.runtime.compile import compile_graph
from jitgrad.transforms.forward import pushforward
from jitgrad.transforms.reverse import pullback

NOISE = 8  # units in the last place by which inexact results are moved
MARGIN = 8  # times the movement seen that a result may be off
MOVES = 4  # runs with noise; before a disagreement is believed, ten times as many

_ROUNDED = """
    sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh exp exp2 expm1 log log2 log10 log1p cbrt
    hypot arctan2 power reduce_prod cumprod integer_power
"""
_EXTREMA = ("minimum", "maximum", "fmin", "fmax")
_INEXACT = frozenset(_ROUNDED.split())


class Disagreement(Exception):
    """Two ways to compute a graph differ; says which and where."""


# --- how much may differ


def _noise(node: Node, value: np.ndarray, operands: Sequence[np.ndarray], rng) -> np.ndarray:
    """`value` moved by some units in the last place of what its computation went through."""
    if node.dtype.kind != "f":
        return value
    name, params = node.primitive.name, node.params
    if name in _EXTREMA:  # which of 0.0 and -0.0 they give is nobody's promise: in NumPy it is a matter of the place
        x, y = operands
        tied = (x == 0) & (y == 0) & (np.signbit(x) != np.signbit(y))
        return np.where(tied, np.copysign(0.0, rng.uniform(-1.0, 1.0, value.shape)), value).astype(node.dtype)
    if name in _INEXACT:
        scale = np.abs(value)
    elif name in ("reduce_sum", "cumsum"):
        scale = node.primitive.reference(np.abs(operands[0]), **params)
    elif name in ("matmul", "linear_recurrence", "scatter_add"):
        scale = node.primitive.reference(*[np.abs(o) if o.dtype.kind == "f" else o for o in operands], **params)
    else:
        return value
    unit = np.finfo(node.dtype).eps
    scale = np.where(scale > 0, scale + np.finfo(node.dtype).tiny, scale)  # below it, units do not shrink
    amount = unit * NOISE * (1 + np.log2(1 + max(1, operands[0].size // max(1, value.size))))
    with np.errstate(all="ignore"):
        moved = value + np.where(np.isfinite(scale), scale, 0) * rng.uniform(-amount, amount, value.shape)
    return np.asarray(moved).astype(node.dtype)


def _value(node: Node, values: dict[Node, np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return interpret.evaluate(node, [values[operand] for operand in node.operands])


def noisy_run(graph: Graph, arrays: Sequence[np.ndarray], rng) -> list[np.ndarray]:
    """The outputs with noise on whatever is not exactly rounded."""
    values = dict(zip(graph.inputs, arrays, strict=True))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node not in values:
                operands = [values[operand] for operand in node.operands]
                values[node] = _noise(node, _value(node, values), operands, rng)
    return [values[node] for node in graph.outputs]


def tolerances(graph: Graph, arrays, expected: Sequence[np.ndarray], moves: int, seed: int) -> list[np.ndarray]:
    """Per output the largest difference that noise made, nan where a result came and went."""
    rng = np.random.default_rng(seed)
    found = [np.zeros(e.shape) for e in expected]
    for _ in range(moves):
        for k, moved in enumerate(noisy_run(graph, arrays, rng)):
            found[k] = np.maximum(found[k], _difference(moved, expected[k]))
    return found


def _difference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x - y|, 0 where both are the same inf or both nan, inf where one alone is not finite."""
    if x.dtype.kind != "f":
        return np.where(x == y, 0.0, np.inf)
    with np.errstate(all="ignore"):
        wide = np.abs(x.astype(np.longdouble) - y.astype(np.longdouble))
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    return np.where(same, 0.0, np.where(np.isnan(wide), np.inf, wide)).astype(float)


def compare(what: str, graph: Graph, arrays, expected, actual, seed: int = 0) -> None:
    """Raises Disagreement where `actual` is not `expected`, the interpreter's results for `graph`, up to noise."""
    for k, (e, a) in enumerate(zip(expected, actual, strict=True)):
        if e.shape != a.shape or e.dtype != a.dtype:
            raise Disagreement(f"{what}: output {k} is {a.dtype}{a.shape} in place of {e.dtype}{e.shape}")
    differences = [_difference(a, e) for e, a in zip(expected, actual, strict=True)]
    if not any(d.any() for d in differences):
        return
    for moves in (MOVES, 10 * MOVES):
        allowed = tolerances(graph, arrays, expected, moves, seed)
        wrong = [d > MARGIN * t for d, t in zip(differences, allowed, strict=True)]
        if not any(w.any() for w in wrong):
            return
    k = next(k for k, w in enumerate(wrong) if w.any())
    at = tuple(int(i) for i in np.argwhere(wrong[k])[0])
    raise Disagreement(
        f"{what}: output {k} differs at {wrong[k].sum()} of {wrong[k].size} places; at {at} it is {actual[k][at]!r}"
        f" in place of {expected[k][at]!r} (allowed {MARGIN * allowed[k][at]:.3g})"
    )


# --- what is checked


def check(graph: Graph, arrays: Sequence[np.ndarray]) -> None:
    """Raises Disagreement, or whatever the compiler raises, where a way to compute `graph` is wrong."""
    expected = interpret.run(graph, arrays)
    optimized = verify(optimize(verify(graph), lambda name, after, _: verify(after, name)))
    compare("passes", graph, arrays, expected, interpret.run(optimized, arrays))
    before = [array.copy() for array in arrays]
    executable = compile_graph(graph, [layout_of(array) for array in arrays])
    compare("compiled", graph, arrays, expected, executable(*arrays))
    compare("second call", graph, arrays, expected, executable(*arrays))
    for array, copy in zip(arrays, before, strict=True):
        if array.tobytes() != copy.tobytes():
            raise Disagreement("compiled code wrote to an input")


def derivatives(program: Program, rng: np.random.Generator) -> tuple[Program, int] | None:
    """The program with its tangents and cotangents as further outputs, for random directions as further inputs; and
    the number of float outputs. None where there is nothing to differentiate."""
    graph = program.graph
    inputs = [node for node in graph.inputs if node.dtype.kind == "f"]
    outputs = list(dict.fromkeys(node for node in graph.outputs if node.dtype.kind == "f"))
    tangents, cotangents = ([fresh_input(n.aval) for n in nodes] for nodes in (inputs, outputs))
    moved = pushforward(outputs, inputs, tangents)
    pulled = pullback(outputs, inputs, cotangents)
    if not outputs or all(m is None for m in moved):
        return None
    zero = [n * 0.0 for n in (*outputs, *inputs)]
    results = [r if r is not None else z for r, z in zip((*moved, *pulled), zero, strict=True)]
    extra = [rng.integers(-3, 4, n.shape).astype(n.dtype) for n in (*tangents, *cotangents)]
    whole = Graph((*graph.inputs, *tangents, *cotangents), (*graph.outputs, *results))
    return Program(whole, [*program.arrays, *extra], program.kind), len(outputs)


def check_duality(program: Program, outputs: int) -> None:
    """<g, J t> = <J^T g, t>, for the graph that `derivatives` made."""
    graph, arrays = program.graph, program.arrays
    count = len(graph.outputs)
    floats = [n for n in graph.inputs if n.dtype.kind == "f"]
    inputs = (len(floats) - outputs) // 2
    results = interpret.run(graph, arrays)[count - outputs - inputs :]
    moved, pulled = results[:outputs], results[outputs:]
    directions = arrays[len(arrays) - outputs - inputs :]
    tangents, cotangents = directions[:inputs], directions[inputs:]
    with np.errstate(all="ignore"):
        terms = [
            np.asarray(a, float) * b for a, b in (*zip(moved, cotangents, strict=True), *zip(pulled, tangents, strict=True))
        ]
    if not all(np.isfinite(t).all() for t in terms):
        return
    left, right = (sum(float(t.sum()) for t in part) for part in (terms[:outputs], terms[outputs:]))
    size = sum(float(np.abs(t).sum()) for t in terms)
    single = any(n.dtype.itemsize < 8 for n in graph.nodes if n.dtype.kind == "f")
    allowed = size * (2e-3 if single else 1e-8)
    if abs(left - right) > allowed:
        raise Disagreement(f"duality: <g, J t> = {left!r}, <J^T g, t> = {right!r}")


@contextmanager
def small_blocks(wanted: bool):
    """Inside, kernels are called for a few rows at a time, shared among threads, even where all fits into cache, and short
    axes are taken apart even where little lies beside them."""
    small = {(sweeps, "LEAST_BYTES"): 256, (sweeps, "BLOCK_BYTES"): 1024, (sweeps, "PARALLEL_WORK"): 0,
             (sweeps, "PIECE_WORK"): 50, (short_axes, "FEWEST"): 2}  # fmt: skip
    before = {place: getattr(*place) for place in small}
    try:
        for place, value in small.items() if wanted else ():
            setattr(*place, value)
        yield
    finally:
        for place, value in before.items():
            setattr(*place, value)


def run_seed(seed: int) -> None:
    """One program, and for odd seeds its derivatives. A failure prints the shrunk program and is raised again."""
    with interning(), small_blocks(seed % 3 == 0):
        rng = np.random.default_rng(seed)
        program = random_program(rng)
        check_and_shrink(program)
        if seed % 2 and program.kind != "special":
            found = derivatives(program, rng)
            if found is not None:
                check_duality(*found)
                check_and_shrink(found[0])
                if seed % 8 == 1 and (second := derivatives(found[0], rng)) is not None:
                    check_duality(*second)
                    check_and_shrink(second[0])


# --- smaller


def check_and_shrink(program: Program) -> None:
    try:
        check(program.graph, program.arrays)
    except Exception as error:
        graph, arrays = shrunk(program.graph, program.arrays, type(error))
        print(to_text(graph))
        for node, array in zip(graph.inputs, arrays, strict=True):
            values = np.array2string(array, threshold=40, separator=", ").replace("\n", "")
            print(f"    # {node.aval} {layout_of(array) or ''} {values}")
        try:
            check(graph, arrays)
        except type(error) as smaller:
            print(f"    # {smaller}\n", flush=True)
        raise


def fails(graph: Graph, arrays, kind: type) -> bool:
    try:
        check(graph, arrays)
    except Exception as error:
        return type(error) is kind
    return False


def shrunk(graph: Graph, arrays: list[np.ndarray], kind: type) -> tuple[Graph, list[np.ndarray]]:
    """A smaller graph that fails too: one output, the earliest, and values in place of what can be cut off."""
    for node in graph.nodes:
        if node.operands and fails(smaller := Graph(graph.inputs, (node,)), arrays, kind):
            graph = smaller
            break
    else:
        graph = _fewer_outputs(graph, arrays, kind)
    values = dict(zip(graph.inputs, arrays, strict=True))
    for node in graph.nodes:
        if node not in values:
            values[node] = _value(node, values)
    changed = True
    while changed:
        changed = False
        for node in reversed(graph.nodes):
            if not node.operands or node in graph.outputs:
                continue
            leaf = fresh_input(node.aval)
            found = _without(graph, node, leaf)
            given = {**values, leaf: np.ascontiguousarray(values[node]).reshape(node.shape)}
            if fails(found, [given[n] for n in found.inputs], kind):
                fresh = dict(zip(graph.nodes, _renamed(graph, node, leaf), strict=True))
                values = {n: given[n] for n in found.inputs} | {fresh[n]: values[n] for n in graph.nodes if n is not node}
                graph, changed = found, True
                break
    return graph, [values[n] for n in graph.inputs]


def _fewer_outputs(graph: Graph, arrays, kind: type) -> Graph:
    outputs = list(graph.outputs)
    for output in graph.outputs:
        fewer = [o for o in outputs if o is not output]
        if fewer and fails(Graph(graph.inputs, tuple(fewer)), arrays, kind):
            outputs = fewer
    return Graph(graph.inputs, tuple(outputs))


def _renamed(graph: Graph, node: Node, leaf: Node) -> list[Node]:
    """The nodes of `graph` with `leaf` in place of `node`."""
    done: dict[Node, Node] = {node: leaf}
    for each in graph.nodes:
        if each not in done:
            done[each] = with_operands(each, done)
    return [done[each] for each in graph.nodes]


def _without(graph: Graph, node: Node, leaf: Node) -> Graph:
    done = dict(zip(graph.nodes, _renamed(graph, node, leaf), strict=True))
    outputs = tuple(done[o] for o in graph.outputs)
    used = set(Graph((), outputs).nodes)
    return Graph(tuple(n for n in (*graph.inputs, leaf) if n in used), outputs)


# --- functions over NumPy

STEP = 1e-4


def run_function(seed: int) -> None:
    """One Python function: its value and gradient through jitgrad, against NumPy, differences and forward mode."""
    function = random_function(np.random.default_rng(seed))
    try:
        check_function(function, seed)
    except Refusals:
        raise
    except ValueError as error:  # NumPy hides what the conversion to a plain number said
        if isinstance(error.__cause__ or error.__context__, Refusals):
            raise (error.__cause__ or error.__context__) from None
        print(_shrunk_function(function, seed))
        raise
    except Exception:
        print(_shrunk_function(function, seed))
        raise


Refusals = (Limitation, UsageError)  # what jitgrad may answer where it cannot, in place of a wrong result


def check_function(function: Function, seed: int = 0) -> None:
    """Raises Disagreement where jitgrad computes something else than NumPy, or its tiers or modes differ."""
    f, arguments = function.compiled(), function.arguments
    expected = np.asarray(f(*(a.copy() for a in arguments)))
    places = tuple(range(len(arguments)))
    results = {}
    for tier in ("interpret", "compile", "auto"):
        transformed = jitgrad.value_and_grad(f, places, tier=tier)
        results[tier] = transformed(*arguments)
        again = transformed(*arguments)
        _near(f"{tier}, second call", results[tier][0], again[0], arguments)
        _near(f"{tier}, value", results[tier][0], expected, arguments)
    plain = jitgrad.jit(f)(*arguments)
    _near("jit, value", plain, expected, arguments)
    if np.asarray(plain).dtype != expected.dtype:
        raise Disagreement(f"jit gives {np.asarray(plain).dtype} in place of {expected.dtype}")
    gradients = results["interpret"][1]
    for argument, gradient, other in zip(arguments, gradients, results["compile"][1], strict=True):
        if np.shape(gradient) != argument.shape or np.asarray(gradient).dtype != argument.dtype:
            raise Disagreement(f"gradient of {argument.dtype}{argument.shape} is {gradient.dtype}{np.shape(gradient)}")
        _near("tiers, gradient", other, gradient, arguments)
    rng = np.random.default_rng(seed)
    directions = [rng.normal(0, 1, a.shape).astype(a.dtype) for a in arguments]
    along = sum(float(np.sum(np.asarray(g, float) * d)) for g, d in zip(gradients, directions, strict=True))
    size = sum(float(np.sum(np.abs(np.asarray(g, float) * d))) for g, d in zip(gradients, directions, strict=True))
    single = any(a.dtype.itemsize < 8 for a in arguments)
    _, moved = jitgrad.jvp(f, tuple(arguments), tuple(directions))
    if not abs(float(moved) - along) <= (1e-3 if single else 1e-9) * (1 + size):
        raise Disagreement(f"forward mode gives {float(moved)!r}, reverse mode {along!r} (terms of {size:.3g})")
    if function.smooth and not single:
        _check_difference(f, arguments, directions, along, size)
    if seed % 4 == 0 and not single:
        _check_second(f, arguments, directions)


def _check_second(f, arguments, directions) -> None:
    """The Hessian times a direction: forward over reverse, and reverse over reverse."""
    places = tuple(range(len(arguments)))
    gradient = jitgrad.grad(f, places)

    def along(*xs):
        return sum(np.sum(g * d) for g, d in zip(gradient(*xs), directions, strict=True))

    _, forward = jitgrad.jvp(gradient, tuple(arguments), tuple(directions))
    for one, other in zip(forward, jitgrad.grad(along, places, tier="compile")(*arguments), strict=True):
        _near("second order, forward and reverse over reverse", one, other, arguments)


def _check_difference(f, arguments, directions, along: float, size: float) -> None:
    """Central differences at two steps; what they differ by says how far they can be trusted."""

    def slope(step: float) -> float:
        up, down = ([a + s * d for a, d in zip(arguments, directions, strict=True)] for s in (step, -step))
        return (float(f(*up)) - float(f(*down))) / (2 * step)

    coarse, fine, finest = (slope(s) for s in (4 * STEP, 2 * STEP, STEP))
    trust = abs(fine - finest) + abs(coarse - fine)
    if trust > 1e-3 * (1 + size):
        return  # a kink or a steep place
    if abs(slope(STEP / 100) - along) < 1e-4 * (1 + size):
        return  # a kink was near
    if abs(finest - along) > 4 * trust + 1e-6 * (1 + size):
        raise Disagreement(f"differences give {finest!r}, reverse mode {along!r} (trust {trust:.3g})")


def _near(what: str, x, y, arguments) -> None:
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape:
        raise Disagreement(f"{what}: shape {x.shape} and {y.shape}")
    if not x.size:
        return
    unit = 1e-3 if any(a.dtype.itemsize < 8 for a in arguments) else 1e-8
    if not (np.abs(x - y) <= unit * (1 + np.abs(y).max())).all():
        raise Disagreement(f"{what}: {x!r:.200} and {y!r:.200}")


def _shrunk_function(function: Function, seed: int) -> str:
    """The source with every line left out that is not needed for the failure."""

    def failure(source: str) -> type | None:
        try:
            check_function(Function(source, function.arguments, function.smooth), seed)
        except Exception as error:
            return type(error)
        return None

    kind = failure(function.source)
    lines = function.source.splitlines(True)
    changed = True
    while changed:
        changed = False
        for k in range(1, len(lines) - 1):
            fewer = "".join(lines[:k] + lines[k + 1 :])
            if failure(fewer) is kind:
                lines, changed = lines[:k] + lines[k + 1 :], True
                break
        terms = lines[-1].strip().removeprefix("return ").split(" + ")
        for k in range(len(terms)):
            fewer = [*lines[:-1], "    return " + " + ".join(terms[:k] + terms[k + 1 :]) + "\n"]
            if len(terms) > 1 and failure("".join(fewer)) is kind:
                lines, changed = fewer, True
                break
    shapes = ", ".join(f"{a.dtype}{a.shape} strides {a.strides}" for a in function.arguments)
    return "".join(lines) + f"    # {shapes}"


# --- many


def _isolated(seeds: Sequence[int], run: Callable[[int], None]) -> list[int]:
    """Runs seeds in a forked process, as wrong machine code may kill it; gives those that failed."""
    failed, todo = [], list(seeds)
    while todo:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _work(todo, run, writing)
        os.close(writing)
        with os.fdopen(reading) as lines:
            rows = [line.split() for line in lines]
        os.waitpid(child, 0)
        done = [int(seed) for word, seed in rows if word != "begin"]
        failed += [int(seed) for word, seed in rows if word == "failed"]
        begun = [int(seed) for word, seed in rows if word == "begin"]
        if len(begun) > len(done):
            print(f"seed {begun[-1]}: the process died", flush=True)
            failed.append(begun[-1])
        todo = todo[len(begun) :] if begun else []
    return failed


def _work(seeds: Sequence[int], run: Callable[[int], None], writing: int) -> None:
    for seed in seeds:
        os.write(writing, f"begin {seed}\n".encode())
        word = "passed"
        try:
            run(seed)
        except Refusals as error:
            word = "refused"
            print(f"refused {seed}: {str(error)[:300]}", file=sys.stderr, flush=True)
        except Exception as error:
            word = "failed"
            print(f"seed {seed}: {type(error).__name__}: {str(error)[:600]}", flush=True)
            if not isinstance(error, Disagreement):
                traceback.print_exc(limit=-4)
        os.write(writing, f"{word} {seed}\n".encode())
    os._exit(0)


ENOUGH = 100  # failures to stop at


def fuzz(minutes: float, seed: int, batch: int = 100, run: Callable[[int], None] = run_seed) -> list[int]:
    """Runs programs from `seed` on for so many minutes; gives the seeds that failed."""
    started, failed, first = time.monotonic(), [], seed
    while time.monotonic() - started < 60 * minutes and len(failed) < ENOUGH:
        failed += _isolated(range(seed, seed + batch), run)
        seed += batch
    print(f"{seed - first} programs, {len(failed)} failed: {failed[:ENOUGH]}")
    return failed


LEVELS = {"node": run_seed, "numpy": run_function}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", choices=LEVELS, default="node", help="graphs, or functions over NumPy")
    parser.add_argument("--only", type=int, help="run this one seed, in this process")
    arguments = parser.parse_args()
    if arguments.only is not None:
        LEVELS[arguments.level](arguments.only)
        return 0
    return 1 if fuzz(arguments.minutes, arguments.seed, run=LEVELS[arguments.level]) else 0


if __name__ == "__main__":
    sys.exit(main())
