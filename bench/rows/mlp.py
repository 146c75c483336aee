"""Rows `mlp`: one training step of a network with one hidden layer: loss, gradient, gradient descent."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from bench.rows.hand import prange, scalar_kernel
from bench.rows.row import FUNCTION, Engine, Row, Work, everyone

RATE = 0.01


# mean of logsumexp(z_i) - <y_i, z_i>,   z = tanh(x W1 + b1) W2 + b2
def network(e: Engine) -> Callable:
    np = e.np

    def loss(W1, b1, W2, b2, x, y):
        z = np.tanh(x @ W1 + b1) @ W2 + b2
        largest = np.max(z, axis=1, keepdims=True)
        normaliser = np.log(np.sum(np.exp(z - largest), axis=1)) + largest[:, 0]
        return np.mean(normaliser - np.sum(y * z, axis=1))
    return loss


def network_autograd(e: Engine) -> Callable:
    np, logsumexp = e.np, e.library.scipy.special.logsumexp

    def loss(W1, b1, W2, b2, x, y):
        z = np.tanh(x @ W1 + b1) @ W2 + b2
        return np.mean(logsumexp(z, axis=1) - np.sum(y * z, axis=1))
    return loss


def network_jax(e: Engine) -> Callable:
    np, log_softmax = e.np, e.library.nn.log_softmax

    def loss(W1, b1, W2, b2, x, y):
        z = np.tanh(x @ W1 + b1) @ W2 + b2
        return -np.mean(np.sum(y * log_softmax(z), axis=1))
    return loss


def step_of(network: Callable) -> Callable:
    def builder(e: Engine) -> Callable:
        value_and_grad = e.value_and_grad(network(e), (0, 1, 2, 3))

        def step(W1, b1, W2, b2, x, y):
            value, (dW1, db1, dW2, db2) = value_and_grad(W1, b1, W2, b2, x, y)
            return value, W1 - RATE * dW1, b1 - RATE * db1, W2 - RATE * dW2, b2 - RATE * db2
        return e.jit(step)
    return builder


def step_torch(e: Engine) -> Callable:
    """As PyTorch is used: leaves that are updated in place, so successive calls go on training."""
    torch, cross_entropy = e.np, e.library.nn.functional.cross_entropy

    @e.forward
    def loss(W1, b1, W2, b2, x, y):
        return cross_entropy(torch.tanh(torch.addmm(b1, x, W1)) @ W2 + b2, y)

    def step(W1, b1, W2, b2, x, y):
        parameters = [p.requires_grad_() for p in (W1, b1, W2, b2)]
        value = loss(*parameters, x, y)
        grads = torch.autograd.grad(value, parameters)
        with torch.no_grad():
            for p, g in zip(parameters, grads, strict=True):
                p.sub_(g, alpha=RATE)
        return value.detach(), *[p.detach() for p in parameters]
    return step


# dz = (softmax z - y) / n,   da = dz W2' (1 - h^2)
def step_by_hand(W1, b1, W2, b2, x, y):
    number = W1.dtype.type
    one, over_n, rate = number(1.0), number(1.0 / x.shape[0]), number(RATE)
    h = numpy.dot(x, W1)
    for i in prange(h.shape[0]):
        for j in range(h.shape[1]):
            h[i, j] = math.tanh(h[i, j] + b1[j])
    z = numpy.dot(h, W2)
    loss = number(0.0)
    for i in range(z.shape[0]):
        z[i] += b2
        largest, weight = z[i].max(), number(0.0)
        for c in range(z.shape[1]):
            loss -= y[i, c] * z[i, c]
            z[i, c] = math.exp(z[i, c] - largest)
            weight += z[i, c]
        loss += math.log(weight) + largest
        for c in range(z.shape[1]):
            z[i, c] = (z[i, c] / weight - y[i, c]) * over_n
    da = numpy.dot(z, W2.T)
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            da[i, j] *= one - h[i, j] * h[i, j]
    return (loss * over_n, W1 - rate * numpy.dot(x.T, da), b1 - rate * da.sum(axis=0),
            W2 - rate * numpy.dot(h.T, z), b2 - rate * z.sum(axis=0))


PROGRAMS = everyone(step_of(network), autograd=step_of(network_autograd), jax=step_of(network_jax),
                    torch=step_torch, numba=scalar_kernel(step_by_hand))


def batch(rng, n: int, widths: tuple[int, int, int], dtype: str) -> tuple:
    inputs, hidden, outputs = widths
    W1 = rng.standard_normal((inputs, hidden)) / math.sqrt(inputs)
    W2 = rng.standard_normal((hidden, outputs)) / math.sqrt(hidden)
    b1, b2 = rng.standard_normal(hidden) * 0.1, rng.standard_normal(outputs) * 0.1
    x, y = rng.standard_normal((n, inputs)), numpy.eye(outputs)[rng.integers(0, outputs, n)]
    return tuple(array.astype(dtype) for array in (W1, b1, W2, b2, x, y))


# the two products of the loss, and of each again one for the weights and, but for the data, one for its left factor
def work(n: int, widths: tuple[int, int, int], dtype: str) -> Work:
    inputs, hidden, outputs = widths
    size = numpy.dtype(dtype).itemsize
    weights = (inputs + 1) * hidden + (hidden + 1) * outputs
    return Work(read=size * (weights + n * (inputs + outputs)), written=size * weights,
                flops=2 * n * hidden * (2 * inputs + 3 * outputs) + FUNCTION * n * (hidden + outputs), dtype=dtype)


ROWS = tuple(
    Row(f"mlp.{name} {dtype}", PROGRAMS, batch,
        size={"n": n, "widths": widths, "dtype": dtype}, tiny={"n": 4, "widths": (3, 4, 2)}, quick=quick, work=work)
    for name, n, widths, dtype, quick in (
        ("784-128-10 batch 64", 64, (784, 128, 10), "float64", True),
        ("784-128-10 batch 64", 64, (784, 128, 10), "float32", True),
        ("8-16-3 batch 16", 16, (8, 16, 3), "float64", True),
        ("8-16-3 batch 16", 16, (8, 16, 3), "float32", False),
        ("1024-1024-10 batch 1024", 1024, (1024, 1024, 10), "float64", False),
        ("1024-1024-10 batch 1024", 1024, (1024, 1024, 10), "float32", True),
    )
)
