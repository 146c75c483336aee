"""Rows `second`: second derivatives, of a scalar function and of one with 1000 variables along a vector."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from bench.rows.call import bump
from bench.rows.hand import scalar_kernel
from bench.rows.row import Engine, Row, everyone


# ---- d^2/dx^2 sin(x) exp(-x^2)
def curvature(e: Engine) -> Callable:
    return e.jit(e.grad(e.grad(bump(e.np))))


def curvature_jax(e: Engine) -> Callable:
    second = curvature(e)
    return lambda x: float(second(x))


def curvature_torch(e: Engine) -> Callable:
    torch, f = e.np, bump(e.np)

    def second(x):
        x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        slope, = torch.autograd.grad(f(x), x, create_graph=True)
        return torch.autograd.grad(slope, x)[0].item()
    return second


# ((4 x^2 - 3) sin x - 4 x cos x) exp(-x^2)
def curvature_by_hand(x):
    return ((4.0 * x * x - 3.0) * math.sin(x) - 4.0 * x * math.cos(x)) * math.exp(-x * x)


# ---- H v of Rosenbrock's function  sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2
def rosenbrock(np):
    def f(x):
        return np.sum(100.0 * (x[1:] - x[:-1] * x[:-1]) ** 2 + (1.0 - x[:-1]) ** 2)
    return f


def hessian_vector(inner: str) -> Callable:
    """H v as the gradient of <grad f, v>; `inner` is the library's name of the inner product."""
    def builder(e: Engine) -> Callable:
        f, product = rosenbrock(e.np), getattr(e.np, inner)

        def along(x, v):
            return e.grad(lambda x: product(e.grad(f)(x), v))(x)
        return e.jit(along)
    return builder


def hessian_vector_torch(e: Engine) -> Callable:
    torch, f = e.np, rosenbrock(e.np)

    def along(x, v):
        x = x.detach().requires_grad_()
        slope, = torch.autograd.grad(f(x), x, create_graph=True)
        return torch.autograd.grad(torch.vdot(slope, v), x)[0]
    return along


# d = x_{i+1} - x_i^2:  dd = v_{i+1} - 2 x_i v_i;  Hv_{i+1} += 200 dd;  Hv_i += -400 (dd x_i + d v_i) + 2 v_i
def hessian_vector_by_hand(x, v):
    out = numpy.zeros_like(x)
    for i in range(x.size - 1):
        miss, change = x[i + 1] - x[i] * x[i], v[i + 1] - 2.0 * x[i] * v[i]
        out[i + 1] += 200.0 * change
        out[i] += 2.0 * v[i] - 400.0 * (change * x[i] + miss * v[i])
    return out


def point_and_direction(rng, n: int) -> tuple:
    return rng.uniform(-1.0, 1.0, n), rng.standard_normal(n)


ROWS = (
    Row("second.float", everyone(curvature, torch=curvature_torch, jax=curvature_jax,
                                 numba=scalar_kernel(curvature_by_hand)),
        lambda rng: (0.7,), own_arrays=False),
    Row("second.hessian-vector 1000",
        everyone(hessian_vector("vdot"), autograd=hessian_vector("dot"), torch=hessian_vector_torch,
                 numba=scalar_kernel(hessian_vector_by_hand)),
        point_and_direction, size={"n": 1000}, tiny={"n": 6}),
)
