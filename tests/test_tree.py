"""The quick reader of trees gives what `flatten` gives, and refuses every other structure."""

import collections
from dataclasses import dataclass

import numpy as np
import pytest

from jitgrad import grad, jit, tree

Point = collections.namedtuple("Point", "x y")


@dataclass
class Pair:
    left: float
    right: float


READABLE = [
    1.0,
    None,
    (),
    [],
    {},
    (1.0,),
    [1.0, 2.0],
    {"b": 1.0, "a": 2.0},
    {"one": 1.0},
    {3: 1.0, 1: (2.0, [3.0, None])},
    ([{"a": [1.0, 2.0], "b": ()}, None], 4.0),
    {"a": {"b": {"c": [1.0, (2.0, 3.0)]}}, "d": [[], [1.0]]},
]
OTHERS = [Point(1.0, 2.0), collections.OrderedDict(a=1.0), collections.deque([1.0]), Pair(1.0, 2.0), [Point(1.0, 2.0)]]
DEEP = 1.0
for _ in range(200):
    DEEP = [DEEP]


def read(structure, value):
    leaves: list = []
    return leaves if tree.reader(structure)(value, leaves) else None


@pytest.mark.parametrize("value", READABLE, ids=repr)
def test_the_reader_agrees_with_flatten(value):
    leaves, structure = tree.flatten(value)
    assert read(structure, value) == leaves
    for other in [*READABLE, *OTHERS]:
        found, its_structure = tree.flatten(other)
        if structure.is_leaf():
            continue  # takes anything for a leaf
        got = read(structure, other)
        assert (got is not None) == (structure == its_structure)
        assert got is None or got == found


@pytest.mark.parametrize("value", [*OTHERS, DEEP], ids=lambda value: repr(value)[:40])
def test_other_containers_have_no_reader(value):
    assert tree.reader(tree.flatten(value)[1]) is None


def test_compiled_calls_see_every_change_of_the_containers():
    """After two calls the native code answers: another structure must not be taken for the one that it was made for."""
    weights = {"a": np.array([1.0, 2.0]), "b": [np.array(3.0), 4.0]}
    f = grad(lambda w: np.sum(w["a"]) * w["b"][0] * w["b"][1])
    for _ in range(3):
        found = f(weights)
        assert list(found) == ["a", "b"] and type(found["b"]) is list
        np.testing.assert_array_equal(found["a"], [12, 12])
        assert (found["b"][0], found["b"][1]) == (12, 9)
    assert f({"b": [np.array(3.0), 4.0], "a": np.array([1.0, 2.0])})["b"] == [12, 9]
    assert f.traces == 1
    assert f({"a": weights["a"], "b": (np.array(3.0), 4.0)})["b"] == (12, 9)  # a tuple for the list
    with pytest.raises(KeyError):
        f({"a": weights["a"], "c": [np.array(3.0), 4.0]})
    with pytest.raises(IndexError):
        f({"a": weights["a"], "b": [np.array(3.0)]})
    assert f({**weights, "c": 1.0})["c"] == 0
    assert f(weights)["b"] == [12, 9]


def test_keywords_without_leaves_are_part_of_the_structure():
    f = jit(lambda w, flag=3: w[0] if flag is None else w[0] * flag)
    for _ in range(3):
        assert f([2.0], flag=None) == 2
        assert f([2.0]) == 6
    g = jit(lambda w, flag=(): w[0] * (1 + len(flag)))
    assert [g([2.0], flag=(None,)), g([2.0], flag=(None,)), g([2.0]), g([2.0])] == [4, 4, 2, 2]


def test_the_same_output_twice_is_two_arrays():
    f = jit(lambda x: [x * 2, {"again": x * 2}])
    for _ in range(3):
        first, second = f(np.ones(3))
        assert first is not second["again"] and not np.shares_memory(first, second["again"])
