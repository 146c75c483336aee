"""x[key] for every kind of key: NumPy's values and errors, the gradient, and which nodes it takes."""

from __future__ import annotations

import hypothesis.extra.numpy as extra
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jitgrad.numpy  # noqa: F401  (fills the tables)
from jitgrad.errors import Limitation, UsageIndexError, UsageTypeError
from tests.traced_helpers import assert_same, evaluate, gradients, operations, session

FEW = settings(max_examples=250, deadline=None, derandomize=True)


def numbered(*shape) -> np.ndarray:
    return np.arange(1.0, 1 + np.prod(shape, dtype=int)).reshape(shape)


def gradient_of_index(x, key):
    """Of sum(weights * x[key]) by x."""
    expected = np.zeros_like(x)
    np.add.at(expected, key, numbered(*np.shape(x[key])))
    return expected


def check(x, key) -> None:
    assert_same(evaluate(lambda x: x[key], x), x[key])
    (found,) = gradients(lambda x: x[key] * numbered(*np.shape(x[key])), x)
    assert_same(found if found is not None else np.zeros_like(x), gradient_of_index(x, key))


BASIC = [
    0, -1, np.int64(2), np.uint8(1), slice(None), slice(1, None), slice(None, None, -1), slice(-2, -10, -2),
    slice(3, 1), slice(None, 100), slice(np.int64(1), 3), Ellipsis, None, (), (0, 1), (slice(None), 0), (..., 0),
    (..., None, 1), (None, 0, None), (0, ..., 1), (slice(None, None, 2), slice(None, None, -1)),
    (-1, slice(2, 0, -1), None, 3), (slice(2, 2), 0), (..., slice(1, 3)), (0, 0, 0), (0, ..., 0, 0), (None, ...),
]  # fmt: skip


@pytest.mark.parametrize("key", BASIC, ids=str)
def test_basic_keys(key):
    check(numbered(3, 4, 5), key)
    names = set(operations(lambda x: x[key] + 0, numbered(3, 4, 5)))
    assert names <= {"slice", "reshape", "add", "broadcast"}, "basic indexing makes no gather"


MASK = np.array([True, False, True])
ADVANCED = [
    [0, 2], [], [-1, 0, -1], [[0, 1], [2, 2]], np.array([2, 0], np.int8), np.array(1), np.array([], int), (0, [1, 2]),
    ([1, 2], 0), ([0, 1], [2, 3]), ([[0], [1]], [2, 3]), (slice(None), [1, 1, 3]), ([0, 1], slice(None), [1, 0]),
    (0, slice(None), [1, 2]), (slice(None), 0, [1, 2]), (slice(None), [1, 2], 0), ([0, 1], None, [1, 0]),
    (None, [0, 1]), ([0, 1], ..., [1, 0]), (..., [1, 0]), (..., [1, 0], [0, 1]), (slice(None), [0, 1], [1, 0]),
    (np.array(0), slice(None), 1), (np.array(0), slice(None), [1, 1]), (slice(None, None, -1), [3, 0], slice(1, 4)),
    (0, [1], 2), ([0], 1, [2]), (0, None, [1, 2]), (0, ..., [1, 2]), ([1], ..., 0),
    MASK, ~MASK, [True, False, True], np.zeros(3, bool), (MASK, 0), (MASK, [0, 1]), (slice(None), np.arange(4) % 2 == 0),
    (MASK, slice(None), [1, 2]), (numbered(3, 4) % 2 == 0), (numbered(3, 4) % 2 == 0, [0]),
    (slice(None), numbered(4, 5) % 3 == 0), numbered(3, 4, 5) % 7 == 0, (MASK, ..., 0),
    True, False, np.True_, (True, 0), (0, True), (True, [0, 1]), (False, slice(None), [0]), (slice(None), True, [0, 1]),
    (..., True), (None, True), np.array(True), (np.array(False), 0),
]  # fmt: skip


@pytest.mark.parametrize("key", ADVANCED, ids=str)
def test_advanced_keys(key):
    check(numbered(3, 4, 5), key)


shapes = extra.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


@given(st.data())
@FEW
def test_any_basic_key(data):
    shape = data.draw(extra.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    check(numbered(*shape), data.draw(extra.basic_indices(shape, allow_newaxis=True)))


@st.composite
def mixed_keys(draw, shape):
    """Integers, slices, new axes, one Ellipsis, index arrays of broadcasting shapes, masks of 1 or 2 axes."""
    common = draw(extra.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3))
    items, axis = [], 0
    while axis < len(shape):
        extent = shape[axis]
        kind = draw(st.sampled_from(["int", "slice", "array", "array", "mask", "new", "rest"]))
        if kind == "int":
            items.append(draw(st.integers(-extent, extent - 1)))
        elif kind == "slice":
            items.append(draw(st.slices(extent)))
        elif kind == "array":
            ones = [draw(st.sampled_from([side, 1])) for side in common]
            keep = draw(st.integers(0, len(ones)))
            items.append(draw(extra.arrays(np.int64, tuple(ones[keep:]), elements=st.integers(-extent, extent - 1))))
        elif kind == "mask":
            mask = np.zeros(extent, bool)
            count = draw(st.sampled_from([1, common[-1] if common else 1]))
            mask[: min(count, extent)] = True
            items.append(np.roll(mask, draw(st.integers(0, 3))))
        elif kind == "new":
            items.append(None)
            continue
        else:
            if draw(st.booleans()):
                items.append(Ellipsis)
            break
        axis += 1
    return tuple(items)


@given(st.data())
@FEW
def test_any_mixed_key(data):
    shape = data.draw(shapes)
    x, key = numbered(*shape), data.draw(mixed_keys(shape))
    try:
        x[key]
    except IndexError as error:
        with pytest.raises(UsageIndexError):
            evaluate(lambda x: x[key], x)
        assert "shape mismatch" in str(error)
        return
    check(x, key)


@given(st.data())
@settings(FEW, max_examples=100)
def test_any_traced_integer_key(data):
    """The same, with the index arrays and integers traced: gradients accumulate over repeated indices."""
    shape = data.draw(shapes)
    x, key = numbered(*shape), data.draw(mixed_keys(shape))
    places = [k for k, item in enumerate(key) if isinstance(item, np.ndarray) and item.dtype == np.int64]

    def function(x, *indices):
        items = list(key)
        for place, traced in zip(places, indices, strict=True):
            items[place] = traced
        return x[tuple(items)]

    try:
        expected = x[key]
    except IndexError:
        return
    assert_same(evaluate(function, x, *[key[place] for place in places]), expected)


def test_traced_indices():
    x = numbered(4, 3)
    for index in (2, np.int64(-1), np.array([0, 0, 3]), np.array([[1], [2]], np.uint8), np.zeros(0, int)):
        assert_same(evaluate(lambda x, i: x[i], x, index), x[index])
        assert_same(evaluate(lambda x, i: x[:, i], x[:3, :], abs(np.asarray(index)) % 3), x[:3][:, abs(index) % 3])
    assert_same(evaluate(lambda x, i, j: x[i, j], x, 2, -1), x[2, -1])
    assert_same(evaluate(lambda x, i: x[[i, i + 1]], x, 1), x[[1, 2]])
    assert_same(evaluate(lambda x, i: x[i, None, ::-1], x, 1), x[1, None, ::-1])
    (found, none) = gradients(lambda x, i: x[i], x, np.array([1, 1, -3]))
    assert none is None
    assert_same(found, np.array([[0.0] * 3, [3.0] * 3, [0.0] * 3, [0.0] * 3]))


def test_a_traced_index_out_of_range_is_an_error_when_it_runs():
    x = numbered(4, 3)
    with pytest.raises(UsageIndexError, match="index 4 is out of bounds for axis 0 with size 4"):
        evaluate(lambda x, i: x[i], x, 4)


@pytest.mark.parametrize(
    "key",
    [3, -4, np.int64(3), (0, 4), (0, 0, 0, 0), [3], [0, -4], (0, [4]), 1.0, "a", [0.5], np.array([1.0]), (..., ...),
     np.zeros(2, bool), np.zeros((3, 3), bool), ([0, 1], [0, 1, 2]), (slice(0, 1, 0),), [[0], [1, 2]], {0: 1}],
    ids=str,
)  # fmt: skip
def test_errors_of_keys(key):
    """Wherever NumPy raises, so do we, in NumPy's words where it names an index, an axis or a size."""
    x = numbered(3, 4, 5)
    with pytest.raises((IndexError, ValueError, TypeError)) as plain:
        x[key]
    with pytest.raises((IndexError, TypeError)) as found:
        evaluate(lambda x: x[key], x)
    if isinstance(plain.value, IndexError):
        assert isinstance(found.value, UsageIndexError)
        words = str(plain.value)
        if any(word in words for word in ("out of bounds", "too many", "did not match", "shape mismatch")):
            assert words.strip() in str(found.value)
    assert "test_indexing.py" in str(found.value)


def test_refused_keys():
    x = numbered(3)
    with pytest.raises(Limitation, match="np.where"):
        evaluate(lambda x: x[x > 1], x)
    with pytest.raises(UsageTypeError, match=r"x\[i \+ np.arange\(n\)\]"):
        evaluate(lambda x, i: x[i:], x, 1)
    with pytest.raises(UsageIndexError):
        evaluate(lambda x: x[x], x)
    with pytest.raises(UsageTypeError):
        evaluate(lambda x: x.__delitem__(0), x)


def test_scalars():
    for key in ((), ..., None, (None, ...), True):
        assert_same(evaluate(lambda x, key=key: x[key], np.float64(3.0)), np.array(3.0)[key])
    with pytest.raises(UsageIndexError, match="too many indices"):
        evaluate(lambda x: x[0], np.float64(3.0))


def test_iteration_and_unpacking():
    x = numbered(3, 2)
    assert_same(evaluate(lambda x: sum(row * k for k, row in enumerate(x)), x), 1 * x[1] + 2 * x[2])

    def unpacked(x):
        (a, b), *rest = x
        return a * b + rest[0][1] + len(x) + len(rest)

    assert_same(evaluate(unpacked, x), x[0, 0] * x[0, 1] + x[1, 1] + 3 + 2)
    with pytest.raises(UsageTypeError, match="0-d"):
        evaluate(list, np.float64(1.0))
    with pytest.raises(UsageTypeError, match="len"):
        evaluate(len, np.float64(1.0))


def test_index_arrays_are_read_by_reference():
    """An index array of the dtype of indices is the graph's input itself, so that later changes are seen."""
    x, places = numbered(4), np.array([0, 1])
    with session() as opened:
        result = opened.input(x)[places]
        assert_same(opened.value(result), x[[0, 1]])
        places[:] = [3, -2]
        assert_same(opened.value(result), x[[3, -2]])


def test_a_mask_is_reported_as_read():
    with session() as opened:
        x = opened.input(numbered(3))
        x[[0, 1]]
        assert not opened.trace.values_read
        x[MASK]
        assert opened.trace.values_read
