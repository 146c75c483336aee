"""Loops with derivatives, beside JAX's scan and a derivative written by hand in Numba, in one run.

    python bench/loops.py [--rows garch,lstm] [--repeat 7]

Value and gradient of each program; every engine is first compared with ours. Prints nanoseconds a step, ratios (more than 1:
we are faster), the ratio of value-and-gradient to value alone, and seconds to the first result. Peers that are not installed
are left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import jitgrad  # noqa: E402
from jitgrad import tree  # noqa: E402

try:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
except ImportError:
    jax = None  # type: ignore[assignment]
try:
    import numba
except ImportError:
    numba = None  # type: ignore[assignment]

RNG = np.random.default_rng(0)


# --- GARCH(1,1): the likelihood of 1e5 returns


def garch(theta, y):
    omega, alpha, beta = theta
    h = 1.0
    total = 0.0
    for t in range(len(y)):
        h = omega + alpha * y[t] ** 2 + beta * h
        total += np.log(h) + y[t] ** 2 / h
    return total


def garch_jax(theta, y):
    omega, alpha, beta = theta

    def step(carry, v):
        h, total = carry
        h = omega + alpha * v**2 + beta * h
        return (h, total + jnp.log(h) + v**2 / h), None

    return jax.lax.scan(step, (1.0, 0.0), y)[0][1]


def garch_by_hand():
    @numba.njit
    def run(theta, y):
        omega, alpha, beta = theta
        saved = np.empty(y.size + 1)
        saved[0] = 1.0
        total = 0.0
        for t in range(y.size):
            square = y[t] * y[t]
            h = omega + alpha * square + beta * saved[t]
            saved[t + 1] = h
            total += np.log(h) + square / h
        gradient = np.zeros(3)
        back = 0.0
        for t in range(y.size - 1, -1, -1):
            square, inverse = y[t] * y[t], 1 / saved[t + 1]
            back += inverse - square * inverse * inverse
            gradient[0] += back
            gradient[1] += back * square
            gradient[2] += back * saved[t]
            back *= beta
        return total, gradient

    return run


# --- Runge-Kutta: 2000 steps of the Lorenz system


def lorenz(x):
    def slope(x):
        return np.array([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])

    h = 1e-3
    for _ in range(2000):
        a = slope(x)
        b = slope(x + h / 2 * a)
        c = slope(x + h / 2 * b)
        d = slope(x + h * c)
        x = x + h / 6 * (a + 2 * b + 2 * c + d)
    return np.sum(x)


def lorenz_jax(x):
    def slope(x):
        return jnp.array([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])

    def step(x, _):
        h = 1e-3
        a = slope(x)
        b = slope(x + h / 2 * a)
        c = slope(x + h / 2 * b)
        d = slope(x + h * c)
        return x + h / 6 * (a + 2 * b + 2 * c + d), None

    return jnp.sum(jax.lax.scan(step, x, None, length=2000)[0])


# --- heat: 1000 steps of 1000 cells, in place; waves: 100 steps of 100 x 100 cells


def heat(u):
    u = u.copy()
    for _ in range(1000):
        u[1:-1] += 0.2 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return np.sum(u**2)


def heat_jax(u):
    def step(u, _):
        return u.at[1:-1].add(0.2 * (u[2:] - 2 * u[1:-1] + u[:-2])), None

    return jnp.sum(jax.lax.scan(step, u, None, length=1000)[0] ** 2)


def waves(u):
    u = u.copy()
    v = np.zeros_like(u)
    for _ in range(100):
        v[1:-1, 1:-1] += 0.1 * (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1])
        u = u + 0.1 * v
    return np.sum(u**2)


def waves_jax(u):
    def step(carry, _):
        u, v = carry
        push = 0.1 * (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1])
        v = v.at[1:-1, 1:-1].add(push)
        return (u + 0.1 * v, v), None

    return jnp.sum(jax.lax.scan(step, (u, jnp.zeros_like(u)), None, length=100)[0][0] ** 2)


# --- an LSTM with a state of 14 over 200 inputs of 8


def lstm(weights, inputs):
    wx, wh, b = weights
    h = np.zeros(14)
    c = np.zeros(14)
    for x in inputs:
        z = wx @ x + wh @ h + b
        i, f, g, o = z[:14], z[14:28], z[28:42], z[42:]
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
    return np.sum(h**2)


def lstm_jax(weights, inputs):
    wx, wh, b = weights

    def step(carry, x):
        h, c = carry
        z = wx @ x + wh @ h + b
        i, f, g, o = z[:14], z[14:28], z[28:42], z[42:]
        c = c / (1 + jnp.exp(-f)) + jnp.tanh(g) / (1 + jnp.exp(-i))
        return (jnp.tanh(c) / (1 + jnp.exp(-o)), c), None

    return jnp.sum(jax.lax.scan(step, (jnp.zeros(14), jnp.zeros(14)), inputs)[0][0] ** 2)


# --- a factor of a 60 x 60 matrix by three plain loops


def cholesky(a):
    n = a.shape[0]
    factor = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            s = a[i, j]
            for k in range(j):
                s -= factor[i, k] * factor[j, k]
            factor[i, j] = np.sqrt(s) if i == j else s / factor[j, j]
    return np.sum(np.log(np.diag(factor)))


def _weights() -> tuple:
    return RNG.normal(size=(56, 8)) * 0.3, RNG.normal(size=(56, 14)) * 0.3, np.zeros(56)


_M = RNG.normal(size=(60, 60))
ROWS: dict[str, tuple] = {
    "garch": (garch, garch_jax, garch_by_hand, (np.array([0.1, 0.1, 0.8]), RNG.normal(size=100_000)), 100_000),
    "lorenz": (lorenz, lorenz_jax, None, (np.array([1.0, 2.0, 3.0]),), 2000),
    "heat": (heat, heat_jax, None, (RNG.normal(size=1000),), 1000),
    "waves": (waves, waves_jax, None, (RNG.normal(size=(100, 100)),), 100),
    "lstm": (lstm, lstm_jax, None, (_weights(), RNG.normal(size=(200, 8))), 200),
    "cholesky": (cholesky, None, None, (_M @ _M.T + 60 * np.eye(60),), 60 * 61 * 62 // 6),
}


def best_of(function: Callable, arguments: tuple, repeat: int) -> float:
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - started)
    return min(times)


def first(function: Callable, arguments: tuple) -> tuple[float, object]:
    started = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - started, result


def leaves(result) -> np.ndarray:
    found, _ = tree.flatten(result)
    return np.concatenate([np.ravel(np.asarray(leaf)) for leaf in found])


def row(name: str, repeat: int) -> None:
    program, in_jax, by_hand, arguments, steps = ROWS[name]
    ours, alone = jitgrad.jit(jitgrad.value_and_grad(program)), jitgrad.jit(program)
    start, expected = first(ours, arguments)
    alone(*arguments)
    time_ours, time_alone = best_of(ours, arguments, repeat), best_of(alone, arguments, repeat)
    print(
        f"{name:9} jitgrad {time_ours / steps * 1e9:9.1f} ns a step, {time_ours / time_alone:5.2f} x the value alone, "
        f"first result {start:.2f} s"
    )
    for engine, function in engines(in_jax, by_hand).items():
        begun, found = first(function, arguments)
        np.testing.assert_allclose(leaves(found), leaves(expected), rtol=1e-7, atol=1e-9)
        taken = best_of(function, arguments, repeat)
        print(f"{'':9} {engine:7} {taken / steps * 1e9:9.1f} ns a step, {taken / time_ours:5.2f}, first result {begun:.2f} s")


def engines(in_jax: Callable | None, by_hand: Callable | None) -> dict[str, Callable]:
    found: dict[str, Callable] = {}
    if jax is not None and in_jax is not None:
        compiled = jax.jit(jax.value_and_grad(in_jax))
        found["jax"] = lambda *args: jax.block_until_ready(compiled(*args))
    if numba is not None and by_hand is not None:
        found["by hand"] = by_hand()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    for name in options.rows.split(","):
        row(name, options.repeat)
    return 0


if __name__ == "__main__":
    sys.exit(main())
