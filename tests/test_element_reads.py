"""Elements of outside arrays that decide what is traced: when they change, the function is traced again."""

from __future__ import annotations

import math
from math import sqrt

import numpy as np
import pytest

import jitgrad.numpy as jnp
from jitgrad import jit
from jitgrad.errors import UsageValueError

X = np.arange(12.0).reshape(3, 4)
number = np.array(1)
numbers = np.array([1, 2])
weights = np.array([2.0])
parts = [1.0, 2.0, 3.0]
data = np.zeros(20_000)


@pytest.fixture(autouse=True)
def as_they_were():
    yield
    number[...], numbers[:], weights[:] = 1, (1, 2), 2.0


def ramp(x):
    for _ in range(numbers[0]):
        x = x * 2
    return x


def beside_much_data(x):
    return x * data[0] + (x if weights[0] > 1 else -x)


READERS = {
    "axis, a 0-d array": lambda x: np.sum(x, axis=number),
    "axis, an element": lambda x: np.sum(x, axis=numbers[0] - 1),
    "decimals": lambda x: np.round(x / 7, number),
    "shift": lambda x: np.roll(x, numbers[0]),
    "shape": lambda x: np.reshape(x, (numbers[1], -1)),
    "method": lambda x: x.reshape(numbers[1], -1),
    "slice, a 0-d array": lambda x: x[:number],
    "slice, an element": lambda x: x[: numbers[0]],
    "index": lambda x: x[numbers[0]],
    "repeats": lambda x: np.repeat(x, numbers[0]),
    "tile": lambda x: np.tile(x, numbers),
    "delete": lambda x: np.delete(x, [numbers[0]]),
    "diff": lambda x: np.diff(x, n=number),
    "linspace": lambda x: np.linspace(0.0, x, numbers[0]),
    "eye": lambda x: x[:, :3] + jnp.eye(3, k=numbers[0]),
    "ddof": lambda x: np.var(x, ddof=number),
    "pad": lambda x: np.pad(x, numbers[0]),
    "pad with": lambda x: np.pad(x, 1, constant_values=weights[0] - 2),
    "norm": lambda x: np.linalg.norm(x, numbers[1], axis=0),
    "math": lambda x: x * math.exp(weights[0]),
    "a function of math": lambda x: x * sqrt(weights[0]),
    "range": ramp,
    "a list's place": lambda x: x * parts[numbers[0]],
    "allclose": lambda x: x * np.allclose(weights, 2.0),
    "array_equal": lambda x: x * np.array_equal(weights, [2.0]),
    "a branch beside much data": beside_much_data,
    "a length": lambda x: np.zeros(numbers[1]) + x.sum(),
    "signs, all 1 at first": lambda x: x.sum() * np.sign(weights - 1),
    "a mask, all 1 at first": lambda x: x.sum() * (weights > 1).astype(float),
    "a step, all 1 at first": lambda x: x.sum() * np.where(weights > 1, 1.0, 0.0),
    "signs beside ones": lambda x: (x * np.ones(4)).sum() * np.sign(weights - 1),
    "an order, counting at first": lambda x: x[np.argsort(numbers)],
    "places, none at first": lambda x: x[np.flatnonzero(weights < 1)],
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_changed_element_is_seen(reader):
    compiled = jit(reader)
    np.testing.assert_allclose(compiled(X), reader(X))
    number[...], numbers[:], weights[:] = 0, (2, 1), 0.5
    np.testing.assert_allclose(compiled(X), reader(X))


def test_arrays_that_are_only_computed_with_are_read_at_each_call():
    def function(x, axis=0):
        for k in range(x.shape[0]):
            x = x * weights[:1] + math.sqrt(x.shape[1]) * parts[k]
        return np.sum(x, axis=axis)

    compiled = jit(function)
    for value in (2.0, 3.0, 4.0):
        weights[:] = value
        np.testing.assert_allclose(compiled(X), function(X))
    assert compiled.traces == 1


def test_values_that_numpy_refuses_are_refused_when_they_come_later():
    quantile, edges = np.array([0.5]), np.array([1.0, 2.0, 3.0])
    at, binned = jit(lambda x: np.quantile(x, quantile)), jit(lambda x: np.digitize(x, edges))
    np.testing.assert_allclose(at(X), np.quantile(X, quantile))
    np.testing.assert_array_equal(binned(X), np.digitize(X, edges))
    quantile[0], edges[0] = 2.0, 5.0
    with pytest.raises(UsageValueError, match="range"):
        at(X)
    with pytest.raises(UsageValueError, match="monotonic"):
        binned(X)


@pytest.mark.parametrize("tier", ["compile", "interpret"])
def test_negative_powers_of_integers_are_refused_when_they_come(tier):
    power = jit(lambda n, k: n**k, tier=tier)
    n = np.array([2, -3])
    assert power(n, np.array([3, 5])).tolist() == [8, -243]
    with pytest.raises(UsageValueError, match="negative integer powers"):
        power(n, np.array([3, -1]))
    assert power(n, np.array([0, 1])).tolist() == [1, -3]
