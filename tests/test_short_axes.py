"""Short axes that are summed over are taken apart, and extents of 1 are dropped: the same values, in fewer sweeps."""

from __future__ import annotations

import numpy as np
import pytest

import jitgrad
import jitgrad.numpy as jnp
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph
from jitgrad.ir.interpret import run
from jitgrad.ir.node import call, fresh_input, interning
from jitgrad.ir.primitive import Reduce
from jitgrad.ir.verify import verify
from jitgrad.passes import short_axes
from jitgrad.passes.pipeline import optimize
from jitgrad.passes.short_axes import split_short_axes
from jitgrad.passes.units import drop_units

RNG = np.random.default_rng(0)


def energy(x):
    difference = x[:, None, :] - x[None, :, :]
    return np.sum(1.0 / np.sqrt(1.0 + np.sum(difference**2, axis=-1)))


def mixture(points, centres, scales):
    scaled = (points[:, None, :] - centres) * np.exp(scales)
    logs = -0.5 * np.sum(scaled**2, axis=-1) + np.sum(scales, axis=-1)
    top = np.max(logs, axis=1, keepdims=True)
    return np.sum(top[:, 0] + np.log(np.sum(np.exp(logs - top), axis=1)))


def both_wanted(x, y):  # the differences are results too, and a matrix product reads them
    difference = x[:, None, :] - y[None, :, :]
    return np.sum(difference**2, axis=2), difference * 2.0, difference @ np.ones((3, 2))


def folds(x):
    shifted = x * 2.0 - 1.0
    return (np.sum(shifted, 1), np.prod(shifted, 1), np.max(shifted, 1), np.min(shifted, 1), np.any(shifted > 0, 1),
            np.all(shifted > 0, 1), np.sum(shifted, (0, 1)), np.sum(shifted, (0, 1, 2)), np.argmax(shifted, 1))  # fmt: skip


def moved_about(x):  # (70, 4, 3)
    turned = np.transpose(np.exp(x), (2, 0, 1))           # (3, 70, 4)
    flat = np.reshape(turned, (210, 4)) * jnp.arange(4.0)
    other = np.reshape(flat, (3, 70, 2, 2))
    return np.sum(flat, axis=1), np.sum(turned, axis=0), np.sum(other, axis=0), np.sum(np.flip(turned, 0), axis=0)


def gathered(x, index):
    return np.sum((x[index] - x[0]) ** 2, axis=-1)


CASES = (
    (energy, (RNG.normal(size=(90, 3)),)),
    (mixture, (RNG.normal(size=(80, 4)), RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4)))),
    (both_wanted, (RNG.normal(size=(9, 3)), RNG.normal(size=(11, 3)))),
    (folds, (RNG.normal(size=(17, 5, 6)),)),
    (moved_about, (RNG.normal(size=(70, 4, 3)),)),
    (gathered, (RNG.normal(size=(100, 3)), RNG.integers(0, 100, 200))),
    (lambda x: np.sum(x, axis=0), (RNG.normal(size=(8, 65)).astype(np.float32),)),
    (lambda x: np.sum(x * x, axis=(1, 2)), (RNG.integers(-5, 5, (100, 2, 3)),)),
)


def leaves(value):
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_values_and_derivatives(case):
    program, arguments = CASES[case]
    wanted = [k for k, a in enumerate(arguments) if a.dtype.kind == "f"]

    def weighted(*arguments):
        return sum(np.sum(leaf * leaf) for leaf in leaves(program(*arguments)) if leaf.dtype.kind == "f")

    tolerance = 1e-5 if any(a.dtype == np.float32 for a in arguments) else 1e-12
    found = leaves(jitgrad.jit(program)(*arguments))
    expected = [np.asarray(leaf) for leaf in leaves(program(*arguments))]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    if not wanted:
        return
    gradient = jitgrad.grad(weighted, argnums=tuple(wanted), tier="compile")
    with jitgrad.config(skip="split_short_axes,drop_units"):
        plain = jitgrad.grad(weighted, argnums=tuple(wanted), tier="compile")(*arguments)
    for one, other in zip(gradient(*arguments), plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * tolerance, atol=tolerance * np.max(np.abs(other)))




def test_a_pairwise_energy_and_its_gradient_are_one_kernel_without_an_n_by_n_array():
    x = RNG.normal(size=(300, 3))
    compiled = jitgrad.jit(jitgrad.value_and_grad(energy))
    compiled(x)
    plan = compiled._dispatcher.last.runner.executable.plan
    pairs = [step for step in plan.steps if np.prod(step.binding.extents) >= 300 * 300]
    assert len(pairs) == 1
    assert plan.arena_bytes < 300 * 300 * 8 / 2


@pytest.mark.parametrize("sizes", [(64, 200), (100, 101)])
def test_other_sizes_beside_the_axis_have_the_same_kernels(sizes):
    texts = []
    for n in sizes:
        compiled = jitgrad.jit(jitgrad.value_and_grad(energy))
        compiled(RNG.normal(size=(n, 3)))
        steps = compiled._dispatcher.last.runner.executable.plan.steps
        texts.append(max(steps, key=lambda step: np.prod(step.binding.extents)).kernel)
    assert texts[0] == texts[1]


def reduced_axes(graph: Graph) -> list[int]:
    folds = [node for node in graph.nodes if isinstance(node.primitive.code, Reduce)]
    return [fold.operands[0].shape[axis] for fold in folds for axis in fold.params["axes"]]


def test_what_is_not_worth_it_is_left():
    with interning():
        for shape in ((5,), (63, 5), (100, short_axes.LONGEST + 1)):
            x = fresh_input(aval_of(shape, "f8"))
            graph = Graph((x,), (call("reduce_sum", call("exp", x), axes=(len(shape) - 1,)),))
            assert split_short_axes(graph) is graph
        x = fresh_input(aval_of((1000, 8), "f8"))
        node = x
        for _ in range(short_axes.LARGEST_GROWTH // 8 + 1):
            node = call("exp", node)
        graph = Graph((x,), (call("reduce_sum", node, axes=(1,)),))
        assert split_short_axes(graph) is graph


def random_short_program(rng):
    """A graph over short and long axes: arithmetic, broadcasts, transposes, reshapes and folds at random."""
    shape = tuple(int(e) for e in rng.choice([1, 2, 3, 5, 70], size=3))
    inputs = [fresh_input(aval_of(shape, "f8")) for _ in range(2)]
    pool = list(inputs)
    for _ in range(int(rng.integers(4, 14))):
        x = pool[int(rng.integers(len(pool)))]
        match int(rng.integers(6)):
            case 0:
                pool.append(call("sin", x))
            case 1:
                same = [y for y in pool if y.shape == x.shape]
                pool.append(call("multiply", x, same[int(rng.integers(len(same)))]))
            case 2 if x.ndim:
                pool.append(call("transpose", x, axes=tuple(int(a) for a in rng.permutation(x.ndim))))
            case 3 if x.ndim:
                name = str(rng.choice(["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"]))
                count = int(rng.integers(1, x.ndim + 1))
                axes = tuple(sorted(int(a) for a in rng.choice(x.ndim, count, replace=False)))
                pool.append(call(name, x, axes=axes))
            case 4 if x.ndim < 3:
                place = int(rng.integers(x.ndim + 1))
                spread = (*x.shape[:place], int(rng.choice([2, 3])), *x.shape[place:])
                pool.append(call("broadcast", x, shape=spread, axes=tuple(a for a in range(x.ndim + 1) if a != place)))
            case 5 if x.ndim > 1:
                k = int(rng.integers(x.ndim - 1))
                pool.append(call("reshape", x, shape=(*x.shape[:k], x.shape[k] * x.shape[k + 1], *x.shape[k + 2 :])))
    outputs = [pool[int(k)] for k in rng.integers(len(pool), size=2)] + [pool[-1]]
    return Graph(tuple(inputs), tuple(outputs))


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_graphs(first, monkeypatch):
    monkeypatch.setattr(short_axes, "FEWEST", 2)
    split = 0
    for seed in range(first, first + 50):
        with interning():
            rng = np.random.default_rng(seed)
            graph = random_short_program(rng)
            arrays = [rng.normal(size=node.shape) for node in graph.inputs]
            expected = run(graph, arrays)
            for one in (drop_units(graph), split_short_axes(graph), optimize(graph)):
                verify(one)
                split += len(reduced_axes(one)) < len(reduced_axes(graph))
                for found, value in zip(run(one, arrays), expected, strict=True):
                    np.testing.assert_allclose(found, value, rtol=1e-11, atol=1e-11)
    assert split > 10
