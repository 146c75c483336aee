"""Traced values that Python asks for where no source can be rewritten: the actual arguments decide, each call checks."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest

from jitgrad import grad, jit, jvp, value_and_grad, vjp
from jitgrad.errors import UsageTypeError
from jitgrad.runtime import dispatch


def without_source(text: str, name: str = "f", **more):
    """A function whose source cannot be read."""
    space = {"np": np, **more}
    exec(text, space)
    return space[name]


RELU = """
def f(x):
    if x > 0:
        return x * x
    return 3.0 * x
"""


@pytest.mark.parametrize("tier", ["auto", "compile", "interpret"])
def test_each_way_is_traced_once(tier):
    f = without_source(RELU)
    g = grad(f, tier=tier)
    assert [float(g(v)) for v in (2.0, -1.0, 3.0, -4.0, 0.0, 5.0)] == [4.0, 3.0, 6.0, 3.0, 3.0, 10.0]
    assert g._dispatcher.traces == 2


def test_every_transformation():
    f = without_source(RELU)
    for x, value, slope, second in ((2.0, 4.0, 4.0, 2.0), (-1.0, -3.0, 3.0, 0.0)):
        assert jit(f)(x) == value
        assert value_and_grad(f)(x) == (value, slope)
        assert grad(grad(f))(x) == second
        assert jvp(f, (x,), (1.0,)) == (value, slope)
        output, pull = vjp(f, x)
        assert (output, pull(1.0)) == (value, (slope,))


def test_decisions_on_what_a_derivative_computes():
    lines = ["def f(x):", "    slope = grad(lambda v: v**3)(x)", "    if slope > 3:", "        return x * slope"]
    lines.append("    return x")
    f = without_source("\n".join(lines), grad=grad)
    g = jit(grad(f))
    np.testing.assert_allclose([g(2.0), g(0.5), g(-2.0)], [36.0, 1.0, 36.0])


def test_opaque_statements_and_key_functions():
    def in_a_with(x):
        with np.errstate(all="ignore"):
            if x > 0:
                return np.log(x)
        return x

    def largest(x):
        return sorted([x[0], x[1] * 2, 3.0], key=lambda v: -v)[0]

    def chosen(x):
        return sum(v**2 for v in x if v > 0)

    assert grad(in_a_with)(2.0) == 0.5 and grad(in_a_with)(-2.0) == 1.0
    g = grad(largest)
    for x, expected in (([5.0, 1.0], [1, 0]), ([1.0, 4.0], [0, 2]), ([0.0, 0.0], [0, 0]), ([6.0, 1.0], [1, 0])):
        np.testing.assert_array_equal(g(np.array(x)), expected)
    np.testing.assert_array_equal(grad(chosen)(np.array([1.0, -2.0, 3.0])), [2.0, 0.0, 6.0])


def test_integers():
    lines = ["def f(x, n):", "    total = 0.0", "    for k in range(n):", "        total = total + x ** k", "    return total"]
    f = without_source("\n".join(lines))
    g = jit(grad(lambda x, n: f(x, n.astype(int))))
    for n in (1.0, 3.0, 4.0, 3.0):
        np.testing.assert_allclose(g(2.0, n), sum(k * 2.0 ** (k - 1) for k in range(1, int(n))))
    lists = without_source("def f(x, n):\n    return [x, x * x, x * x * x][n]\n")
    h = jit(grad(lambda x, n: lists(x, n.astype(int))))
    assert [float(h(2.0, n)) for n in (0.0, 1.0, 2.0)] == [1.0, 4.0, 12.0]
    assert jit(lambda x, n: x[: int(n.astype(int))].sum())(np.ones(5), 3.0) == 3.0


def test_membership_and_unpacking():
    f = jit(without_source("def f(x):\n    a, b, c = x\n    return a * b + c if 2.0 in x else a\n"))
    assert f(np.array([2.0, 3.0, 4.0])) == 10.0 and f(np.array([1.0, 3.0, 4.0])) == 1.0


def test_an_error_on_a_way_that_is_not_gone_is_none():
    f = jit(without_source("def f(x, n):\n    if x[0] > 0:\n        return x[n.astype(int)]\n    return x[0]\n"))
    assert f(np.array([1.0, 2.0]), 1.0) == 2.0
    assert f(np.array([-1.0, 2.0]), 7.0) == -1.0  # the way kept first would be out of range
    with pytest.raises(IndexError):
        f(np.array([1.0, 2.0]), 7.0)


def test_when_all_ways_are_used_up_it_goes_on_and_says_so_once():
    f = without_source("def f(x):\n    return x * int(np.floor(x).astype(int))\n")
    g = grad(f)
    with pytest.warns(UserWarning, match="takes another way for every new value") as said:
        for v in range(dispatch.PATHS + 5):
            assert g(v + 0.5) == v
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert g(50.5) == 50 and g(51.5) == 51


def test_unknown_in_a_loop_that_is_rolled():
    f = without_source(RELU)

    def looped(x, n):
        for _ in range(n):
            x = f(x)
        return x

    with pytest.raises(UsageTypeError, match="truth of a traced value"):
        jit(lambda x, n: looped(x, n.astype(int)))(1.0, 3.0)
    assert grad(lambda x: looped(x, 12))(-1.0) == 3.0**12  # of known length: unrolled


def test_threads():
    g = jit(grad(without_source(RELU)))
    wrong = []

    def work(k: int) -> None:
        for step in range(200):
            x = float((k + step) % 7 - 3)
            if g(x) != (2 * x if x > 0 else 3.0):
                wrong.append(x)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
