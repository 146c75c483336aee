"""Programs that are loops: written as Python has them, with derivatives.

    python examples/loops.py

A GARCH model fitted by maximum likelihood, an orbit steered to a target through its integrator, the hidden states of a
chain, the time at which a falling body crosses a line, and which edges of a grid a shortest path depends on.
"""

from __future__ import annotations

import numpy as np

from jitgrad import grad, jit, value_and_grad


def garch_loss(raw, returns):
    """Minus the log likelihood of GARCH(1,1), per observation; `raw` are the logs of its three parameters."""
    omega, alpha, beta = np.exp(raw)
    h = np.mean(returns**2)
    total = 0.0
    for t in range(len(returns)):
        total += np.log(h) + returns[t] ** 2 / h
        h = omega + alpha * returns[t] ** 2 + beta * h
    return 0.5 * total / len(returns)


def simulated_returns(count: int, rng: np.random.Generator) -> np.ndarray:
    returns, h = np.empty(count), 1.0
    for t in range(count):
        returns[t] = np.sqrt(h) * rng.normal()
        h = 0.1 + 0.15 * returns[t] ** 2 + 0.75 * h
    return returns


def fit_garch() -> np.ndarray:
    """(omega, alpha, beta), by gradient descent with momentum on 20,000 simulated returns of (0.1, 0.15, 0.75)."""
    returns = simulated_returns(20_000, np.random.default_rng(1))
    step = jit(value_and_grad(garch_loss))
    raw, speed = np.log([0.3, 0.1, 0.5]), np.zeros(3)
    for _ in range(400):
        _, slope = step(raw, returns)
        speed = 0.9 * speed - 0.2 * slope
        raw = raw + speed
    return np.exp(raw)


def orbit_miss(velocity, target):
    """How far from the target a body is after 500 steps of the classical Runge-Kutta method around a centre of gravity."""

    def slope(state):
        x, v = state[:2], state[2:]
        return np.concatenate([v, -x / np.sum(x * x) ** 1.5])

    state = np.concatenate([np.array([1.0, 0.0]), velocity])
    h = 0.004
    for _ in range(500):
        a = slope(state)
        b = slope(state + h / 2 * a)
        c = slope(state + h / 2 * b)
        d = slope(state + h * c)
        state = state + h / 6 * (a + 2 * b + 2 * c + d)
    return np.sum((state[:2] - target) ** 2)


def steer() -> tuple[np.ndarray, float]:
    """The velocity that leads to where a circular orbit is after two units of time, and by how much it still misses."""
    target = np.array([np.cos(2.0), np.sin(2.0)])
    miss = jit(value_and_grad(orbit_miss))
    velocity = np.array([0.0, 0.95])
    for _ in range(1000):
        distance, slope = miss(velocity, target)
        velocity = velocity - 0.02 * slope
    return velocity, float(distance)


def chain_likelihood(log_transition, log_emission, symbols):
    """The log likelihood of a hidden Markov chain, by the forward recursion."""
    transition = np.exp(log_transition)
    alpha = np.exp(log_emission[:, 0]) / log_emission.shape[0]
    total = 0.0
    for t in range(len(symbols)):
        seen = log_emission[:, 1] if symbols[t] > 0 else log_emission[:, 0]
        alpha = (alpha @ transition) * np.exp(seen)
        scale = np.sum(alpha)
        alpha = alpha / scale
        total += np.log(scale)
    return total


def crossing_time(gravity):
    """When a body that falls from a height of one, with friction, reaches the ground."""
    x, v, t, dt = 1.0, 0.0, 0.0, 1e-3
    while x > 0:
        before = x
        v += dt * (gravity - 0.3 * v * v)
        x = x - dt * v
        t += dt
    return t + dt * x / (before - x)


def shortest_path(weights):
    """The length of the shortest way through a grid, from corner to corner, one cell right or down at a time."""
    n = weights.shape[0]
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
            best[i, j] = before + weights[i, j]
    return best[n - 1, n - 1]


def main() -> None:
    print("GARCH (0.1, 0.15, 0.75):", np.round(fit_garch(), 3))
    velocity, miss = steer()
    print("velocity:", np.round(velocity, 4), "misses by", f"{np.sqrt(miss):.1e}")
    rng = np.random.default_rng(0)
    symbols = (rng.random(1000) < 0.3).astype(float)
    rates = np.log([[0.8, 0.2], [0.3, 0.7]])
    value, slope = value_and_grad(chain_likelihood, argnums=1)(np.log([[0.9, 0.1], [0.2, 0.8]]), rates, symbols)
    print("chain:", np.round(value, 3), "slope", np.round(slope[0], 2))
    first, second = grad(crossing_time)(9.81), grad(grad(crossing_time))(9.81)
    print("crossing:", np.round([crossing_time(9.81), first, second], 5))
    on_the_way = grad(shortest_path)(np.random.default_rng(3).random((12, 12)))
    print("cells on the shortest path:", int(np.sum(on_the_way)))


if __name__ == "__main__":
    main()
