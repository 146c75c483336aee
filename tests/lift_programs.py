"""Programs as people write them: loops, branches and stores, each with arguments to try them at."""

from __future__ import annotations

import math

import numpy as np

import jitgrad
from jitgrad import grad

RNG = np.random.default_rng(0)


def branch_in_loop(x, y):
    s = 0.0
    for i in range(100):
        if x > 0:
            s = s + x * i
        else:
            s -= y
    return s


def garch(theta, y):
    w, a, b = theta
    h = 1.0
    ll = 0.0
    for t in range(len(y)):
        h = w + a * y[t] ** 2 + b * h
        ll += np.log(h) + y[t] ** 2 / h
    return ll


def early_return(x):
    if x < 0:
        return -x
    if x < 1:
        y = x * x
    else:
        y = 2 * x - 1
    return y + x


def while_with_break(x):
    n = 0
    while x < 100:
        x = x * 1.5
        n += 1
        if n > 50:
            break
    return x * n


def newton(a):
    x = a
    for _ in range(50):
        step = (x * x - a) / (2 * x)
        x = x - step
        if abs(step) < 1e-12:
            break
    return x


def return_in_loop(x, v):
    for i in range(20):
        if x[i] > v:
            return x[i] * i
    return v * 2.0


def continue_in_nest(x):
    t = 0.0
    for i in range(10):
        for j in range(i):
            if (i + j) % 2 == 0:
                continue
            t += math.sin(x * i) * j
    return t


def elements(x):
    s = 0.0
    for a in x:
        s += a * a
    for i, a in enumerate(x):
        s += i * a
    for a, b in zip(x, x[::-1], strict=True):
        s += a * b
    for i in reversed(range(len(x))):
        s = s * 0.9 + x[i]
    return s


def conditional_expressions(x):
    y = x if x > 0 else -2 * x
    return y * (1.0 if (0 < x < 5 and x != 3.5) or x < -10 else 3.0)


def growing_list(x):
    out = []
    for i in range(20):
        out.append(x * i)
    return sum(out)


def recursion(x, n):
    return x if n == 0 else x * recursion(x + 1, n - 1)


def descent(x):
    def f(w, k):
        return (w - x) ** 2 * (k + 1) + np.sin(w)

    w = 0.5
    for k in range(30):
        w = w - 0.01 * grad(lambda u: f(u, k))(w)  # noqa: B023
    return w * x


def endless_while(x):
    total = 0
    k = 0
    while True:
        total += x**k
        k += 1
        if k >= 12:
            break
    else:
        total = -1
    return total


def loop_else(x):
    for i in range(20):
        if x * i > 30:
            break
    else:
        return x
    return x * i


def tuple_assignment(x):
    a, b = x, 1.0
    for _ in range(15):
        a, b = b + a * 0.5, a
    return a - b


def containers(x):
    s = {"a": x, "b": [0.0, x]}
    for _ in range(12):
        s = {"a": s["a"] * 1.1, "b": [s["b"][0] + s["a"], s["b"][1]]}
    return s["b"][0] * s["b"][1]


def vectors(x):
    s = 0.0
    for i in range(12):
        s = s + np.sin(x * i)
    return np.sum(s)


class Model:
    """A class with a loop and a branch in its methods."""

    def __init__(self, w):
        self.w = w

    def step(self, h, x):
        if h > 1.0:
            h = h / 2
        return h * self.w + x

    def __call__(self, x):
        h = 0.0
        for _ in range(20):
            h = self.step(h, x)
        return h


MODEL = Model(0.9)


def methods(x):
    return MODEL(x)


def made_in_the_body(x):
    for i in range(10):
        d = x * i
    return d * i


def generator_expression(x):
    return sum(x * i if i % 2 else -x for i in range(10))


def builtins_of_numbers(x):
    return max(x, 2.0) * min(x, 3.0, x * x) + abs(-x) + float(x) + int(x) + round(x)


def steps_downwards(x):
    out = 0.0
    for i in range(9, 0, -2):
        out = out * x + i
    for i in range(30, 3, -4):
        out += i * x
    return out


def return_out_of_a_nest(x):
    for i in range(10):
        for j in range(10):
            if i * x + j > 25:
                return i * x * 1.0 + j
    return 0.0


def minors(x):
    n = 4
    rows = [[x + i * j + (i == j) for j in range(n)] for i in range(n)]

    def minor(at, columns):
        if at == n:
            return 1.0
        s = 0.0
        for k, c in enumerate(columns):
            s = s + (-1) ** k * rows[at][c] * minor(at + 1, columns[:k] + columns[k + 1 :])
        return s

    return minor(0, tuple(range(n)))


def math_module(x):
    return math.sin(x) * math.exp(-x) + math.sqrt(x) + math.log(x, 2) + math.pow(x, 1.5) + math.atan2(x, 2) + math.floor(x) * x


def short_circuit(x):
    total = 0.0
    i = 0
    while i < len(x) and x[i] > 0:
        total += x[i] ** 2
        i += 1
    return total * (1 + i)


def crossing(v):
    """A particle that falls until it crosses a line: the time when it does."""
    x, t, dt = 0.0, 0.0, 0.01
    while x < 1.0:
        before = x
        x = x + v * dt * (1 + t)
        t += dt
    return t - dt * (x - 1.0) / (x - before)


# --- stores


def recurrence_in_an_array(x):
    y = np.zeros(10)
    y[0] = x
    for i in range(1, 10):
        y[i] = y[i - 1] * 0.5 + np.sin(x * i)
    return np.sum(y * y)


def slices(x):
    y = x * 1
    y[1:-1] = y[1:-1] + 0.1 * (y[2:] - 2 * y[1:-1] + y[:-2])
    y[::2] *= 2
    y[-1] += y[0]
    return np.sum(y**2)


def heat(x):
    u = x.copy()
    for _ in range(20):
        u[1:-1] += 0.2 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return np.sum(u**3)


def wave(x):
    u = x.copy()
    v = np.zeros_like(x)
    for _ in range(15):
        v[1:-1, 1:-1] += 0.02 * (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1])
        u = u + 0.1 * v * u
    return np.sum(u**2)


def cholesky(shift):
    a = _MATRIX + shift * np.eye(12)
    n = a.shape[0]
    factor = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            s = a[i, j]
            for k in range(j):
                s -= factor[i, k] * factor[j, k]
            if i == j:
                factor[i, j] = np.sqrt(s)
            else:
                factor[i, j] = s / factor[j, j]
    return np.sum(np.log(np.diag(factor)))


_M = RNG.normal(size=(12, 12))
_MATRIX = _M @ _M.T + 12 * np.eye(12)


def bubble_sort(x):
    y = x.copy()
    n = len(y)
    for i in range(n):
        for j in range(n - 1 - i):
            if y[j] > y[j + 1]:
                t = y[j]
                y[j] = y[j + 1]
                y[j + 1] = t
    return np.sum(y * np.arange(n) ** 2)


def shortest_path(w):
    """The cheapest way from the upper left to the lower right corner, one step right or down at a time."""
    n = w.shape[0]
    best = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i == 0 and j == 0:
                before = 0.0
            elif i == 0:
                before = best[i, j - 1]
            elif j == 0:
                before = best[i - 1, j]
            else:
                before = min(best[i - 1, j], best[i, j - 1])
            best[i, j] = before + w[i, j]
    return best[n - 1, n - 1]


def views(x):
    y = x * 1.0
    row = y[0]
    row[1] = 5.0 * y[1, 1]
    y.T[2] = y[:, 0] * 2
    flat = y.reshape(-1)
    flat[3] = flat[0] ** 2
    y[1] += row
    return np.sum(y * y * np.arange(9).reshape(3, 3))


def masks_and_picks(x):
    y = x * 2.0
    y[x > 0.5] = 1.0
    y[[0, 0, 1]] = x[:3] * 3
    y[np.array([True, False] * 5)] += 2 * x[0]
    return np.sum(y * np.arange(1, 11))


def swaps(x):
    y = x * 1.0
    for i in range(9):
        y[[i, i + 1]] = y[[i + 1, i]]
    return np.sum(y * np.arange(10) ** 2)


def rows_and_columns(a):
    b = np.zeros_like(a)
    for i in range(a.shape[0]):
        b[i] = a[i] * i
        b[i, 0] += np.sum(a[i])
        b[:, 1] += a[:, 0] * i
    return np.sum(b * b)


def argument(x):
    x[0] = x[1] ** 2
    return np.sum(x * x)


def forward_backward(logits):
    """The likelihood of a chain with two hidden states."""
    alpha = np.array([0.6, 0.4])
    transition = np.array([[0.7, 0.3], [0.2, 0.8]])
    total = 0.0
    for t in range(logits.shape[0]):
        alpha = (alpha @ transition) * np.exp(logits[t])
        scale = np.sum(alpha)
        alpha = alpha / scale
        total += np.log(scale)
    return total


def lstm(weights, inputs):
    wx, wh, b = weights
    h, c = np.zeros(3), np.zeros(3)
    for x in inputs:
        z = wx @ x + wh @ h + b
        i, f, g, o = z[:3], z[3:6], z[6:9], z[9:]
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
    return np.sum(h**2)


def explicit_forms(x):
    y = jitgrad.fori_loop(0, 12, lambda i, v: v * 1.01 + i, x)
    z = jitgrad.while_loop(lambda v: v[0] < 100.0, lambda v: (v[0] * 2.0, v[1] + v[0]), (x, 0.0))
    last, all_of_them = jitgrad.scan(lambda c, v: (c * x + v, c), y, np.arange(20.0))
    chosen = jitgrad.switch(2, [np.sin, np.cos, np.exp], x / 10)
    return y + z[1] + last * 1e-3 + np.sum(all_of_them) * 1e-3 + chosen + jitgrad.cond(x > 1, np.sin, np.cos, x)


VECTOR, SMALL, GRID = RNG.normal(size=10), RNG.normal(size=(3, 3)), RNG.normal(size=(9, 9))
PROGRAMS = [
    (branch_in_loop, (2.0, 1.0)), (branch_in_loop, (-2.0, 1.0)), (garch, (np.array([0.1, 0.1, 0.8]), RNG.normal(size=50))),
    (early_return, (-0.5,)), (early_return, (0.5,)), (early_return, (2.0,)), (while_with_break, (1.3,)), (newton, (2.0,)),
    (return_in_loop, (np.linspace(0, 1, 20), 0.33)), (return_in_loop, (np.linspace(0, 1, 20), 2.0)), (continue_in_nest, (0.3,)),
    (elements, (VECTOR,)), *((conditional_expressions, (v,)) for v in (-20.0, -1.0, 2.0, 3.4, 7.0)), (growing_list, (2.0,)),
    (recursion, (1.1, 5)), (descent, (1.3,)), (endless_while, (0.9,)), (loop_else, (2.1,)), (loop_else, (1.0,)),
    (tuple_assignment, (0.7,)), (containers, (0.3,)), (vectors, (np.array([0.1, 0.2, 0.3]),)), (methods, (0.7,)),
    (made_in_the_body, (0.3,)), (generator_expression, (0.4,)), (builtins_of_numbers, (2.6,)), (steps_downwards, (0.9,)),
    (return_out_of_a_nest, (1.7,)), (minors, (0.3,)), (math_module, (2.3,)), (short_circuit, (np.abs(VECTOR),)),
    (short_circuit, (VECTOR,)), (crossing, (0.8,)),
    (recurrence_in_an_array, (0.7,)), (slices, (VECTOR,)), (heat, (VECTOR,)), (wave, (GRID,)), (cholesky, (0.1,)),
    (bubble_sort, (VECTOR,)), (shortest_path, (np.abs(GRID),)), (views, (SMALL,)), (masks_and_picks, (VECTOR,)),
    (swaps, (VECTOR,)), (rows_and_columns, (GRID,)), (argument, (VECTOR,)), (forward_backward, (RNG.normal(size=(12, 2)),)),
    (lstm, ((RNG.normal(size=(12, 2)), RNG.normal(size=(12, 3)), np.zeros(12)), RNG.normal(size=(11, 2)))),
    (explicit_forms, (1.4,)),
]  # fmt: skip
