"""Rows `call`: what one gradient of a small function costs, ndarrays in and ndarrays out."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from bench.rows.hand import scalar_kernel
from bench.rows.row import Engine, Row, everyone


# ---- one array: d/dx sum(x^3) = 3 x^2
def cubes(e: Engine) -> Callable:
    np = e.np

    def f(x):
        return np.sum(x * x * x)
    return e.jit(e.grad(f))


def cubes_jax(e: Engine) -> Callable:
    gradient = cubes(e)
    return lambda x: numpy.asarray(gradient(x))


def cubes_torch(e: Engine) -> Callable:
    torch = e.np

    def gradient(x):
        x = torch.from_numpy(x).requires_grad_()
        torch.sum(x * x * x).backward()
        return x.grad.numpy()
    return gradient


def cubes_by_hand(x):
    return 3.0 * x * x


# ---- three arrays
def three_products(np):
    def f(x, y, z):
        return np.sum(x * y * y + y * z)
    return f


def three(e: Engine) -> Callable:
    return e.jit(e.grad(three_products(e.np), (0, 1, 2)))


def three_by_hand(x, y, z):
    return y * y, 2.0 * x * y + z, y * 1.0


# ---- ten arrays
def ten_products(np):
    def f(a, b, c, d, e, f, g, h, i, j):
        return np.sum((a * b + c * d) * (e * f + g * h) + i * j)
    return f


def ten(e: Engine) -> Callable:
    return e.jit(e.grad(ten_products(e.np), tuple(range(10))))


def ten_by_hand(a, b, c, d, e, f, g, h, i, j):
    left, right = a * b + c * d, e * f + g * h
    return (b * right, a * right, d * right, c * right, f * left, e * left, h * left, g * left,
            j * 1.0, i * 1.0)


# ---- a dict of lists: sum over leaves of sum(leaf^2)
def squares_of_leaves(np):
    def f(tree):
        total = 0.0
        for name in sorted(tree):
            for leaf in tree[name]:
                total = total + np.sum(leaf * leaf)
        return total
    return f


def tree(e: Engine) -> Callable:
    return e.jit(e.grad(squares_of_leaves(e.np)))


def tree_jax(e: Engine) -> Callable:
    gradient, to_host = tree(e), e.library.device_get
    return lambda t: to_host(gradient(t))


def tree_torch(e: Engine) -> Callable:
    torch = e.np
    f = squares_of_leaves(torch)

    def gradient(t):
        t = {name: [torch.from_numpy(leaf).requires_grad_() for leaf in t[name]] for name in t}
        f(t).backward()
        return {name: [leaf.grad.numpy() for leaf in t[name]] for name in t}
    return gradient


# ---- a Python float: d/dx sin(x) exp(-x^2)
def bump(np):
    def f(x):
        return np.sin(x) * np.exp(-x * x)
    return f


def scalar(e: Engine) -> Callable:
    return e.jit(e.grad(bump(e.np)))


def scalar_jax(e: Engine) -> Callable:
    gradient = scalar(e)
    return lambda x: float(gradient(x))


def scalar_torch(e: Engine) -> Callable:
    torch, f = e.np, bump(e.np)

    def gradient(x):
        x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        f(x).backward()
        return x.grad.item()
    return gradient


def scalar_by_hand(x):
    return (math.cos(x) - 2.0 * x * math.sin(x)) * math.exp(-x * x)


# ---- several ndarrays in and out, for the two libraries with arrays of their own
def tuple_jax(program: Callable) -> Callable:
    def builder(e: Engine) -> Callable:
        gradient = program(e)
        return lambda *arrays: tuple(numpy.asarray(g) for g in gradient(*arrays))
    return builder


def tuple_torch(function: Callable) -> Callable:
    def builder(e: Engine) -> Callable:
        torch, f = e.np, function(e.np)

        def gradient(*arrays):
            tensors = [torch.from_numpy(x).requires_grad_() for x in arrays]
            f(*tensors).backward()
            return tuple([x.grad.numpy() for x in tensors])
        return gradient
    return builder


def vectors(rng, arguments: int, n: int) -> tuple:
    return tuple(rng.standard_normal(n) for _ in range(arguments))


def dict_of_lists(rng, names: int, leaves: int, n: int) -> tuple:
    return ({f"layer{i}": [rng.standard_normal(n) for _ in range(leaves)] for i in range(names)},)


ROWS = (
    Row("call.1-array", everyone(cubes, torch=cubes_torch, jax=cubes_jax, numba=scalar_kernel(cubes_by_hand)),
        vectors, size={"arguments": 1, "n": 10}, own_arrays=False),
    Row("call.3-arrays", everyone(three, torch=tuple_torch(three_products), jax=tuple_jax(three),
                                  numba=scalar_kernel(three_by_hand)),
        vectors, size={"arguments": 3, "n": 10}, own_arrays=False),
    Row("call.10-arrays", everyone(ten, torch=tuple_torch(ten_products), jax=tuple_jax(ten),
                                   numba=scalar_kernel(ten_by_hand)),
        vectors, size={"arguments": 10, "n": 10}, own_arrays=False),
    Row("call.100-leaves", everyone(tree, torch=tree_torch, jax=tree_jax),
        dict_of_lists, size={"names": 10, "leaves": 10, "n": 5}, tiny={"names": 2, "leaves": 2},
        own_arrays=False),
    Row("call.float", everyone(scalar, torch=scalar_torch, jax=scalar_jax,
                               numba=scalar_kernel(scalar_by_hand)),
        lambda rng: (0.7,), own_arrays=False),
)
