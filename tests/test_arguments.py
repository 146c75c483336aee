"""Arguments of every kind: layouts, dtypes, containers, scalars, static values."""

from __future__ import annotations

import collections
import dataclasses
import enum
import fractions
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitgrad import UsageTypeError, grad, is_traced, jit, value_and_grad

BASE = np.arange(1.0, 25.0).reshape(4, 6)


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    result = raw[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def field(array):
    record = np.zeros(array.shape, [("flag", "u1"), ("value", array.dtype)])
    record["value"] = array
    return record["value"]


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "C": lambda: BASE.copy(),
    "F": lambda: np.asfortranarray(BASE),
    "transposed": lambda: BASE.T,
    "strided": lambda: BASE[::2, 1::3],
    "reversed": lambda: BASE[::-1, ::-2],
    "axes moved": lambda: np.moveaxis(np.arange(24.0).reshape(2, 3, 4), 0, 1),
    "broadcast": lambda: np.broadcast_to(np.arange(3.0), (4, 3)),
    "zero-size": lambda: np.zeros((0, 3)),
    "zero-size strided": lambda: np.zeros((4, 0, 6))[::2],
    "one element": lambda: BASE[1:2, 3:4],
    "0-d": lambda: np.array(2.5),
    "read-only": lambda: read_only(BASE),
    "unaligned": lambda: unaligned(BASE),
    "field": lambda: field(BASE),
    "swapped": lambda: BASE.astype(">f8"),
    "swapped strided": lambda: BASE.astype(">f8")[:, ::2],
    "float32": lambda: BASE.astype(np.float32)[:, ::-1],
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("tier", ["auto", "compile"])
def test_layouts(name, tier):
    x = LAYOUTS[name]()
    before = x.copy()
    f = value_and_grad(lambda x: np.sum(np.sin(x) * x), tier=tier)
    rtol = 1e-6 if x.dtype.itemsize == 4 else 1e-13
    for _ in range(3):
        value, gradient = f(x)
        np.testing.assert_allclose(value, np.sum(np.sin(before) * before), rtol=rtol, atol=1e-12)
        np.testing.assert_allclose(gradient, np.cos(before) * before + np.sin(before), rtol=rtol, atol=1e-12)
        assert gradient.shape == x.shape and gradient.dtype == x.dtype.newbyteorder("=")
        assert not np.shares_memory(gradient, x) or x.size == 0
    np.testing.assert_array_equal(x, before)


def test_every_layout_through_one_function():
    f = grad(lambda x: np.sum(x**2))
    for _ in range(2):
        for make in LAYOUTS.values():
            x = make()
            np.testing.assert_allclose(f(x), 2 * x)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_slices_of_slices(data):
    x = np.arange(120.0).reshape(4, 5, 6)
    for _ in range(2):
        key = tuple(
            slice(
                data.draw(st.integers(-n, n)),
                None,
                data.draw(st.sampled_from([1, 2, -1, -3])),
            )
            for n in x.shape
        )
        x = x[key]
    x = x.transpose(data.draw(st.permutations(range(3))))
    np.testing.assert_array_equal(jit(lambda x: 2 * x)(x), 2 * x)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"])
def test_dtypes_pass_through(dtype):
    x = np.array([0, 1, 1], dtype)
    for tier in ("interpret", "compile"):
        result = jit(lambda x: (x, x[::-1]), tier=tier)(x)
        for leaf, expected in zip(result, (x, x[::-1]), strict=True):
            assert leaf.dtype == dtype
            np.testing.assert_array_equal(leaf, expected)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_subclasses():
    with pytest.raises(UsageTypeError, match="matrix"):
        grad(np.sum)(np.matrix([1.0]))
    with pytest.raises(UsageTypeError, match=r"x\['a'\] is a numpy.ma"):
        grad(lambda x: np.sum(x["a"]))({"a": np.ma.array([1.0])})


def test_memmap(tmp_path):
    mapped = np.memmap(tmp_path / "data", np.float64, "w+", shape=(4,))
    mapped[:] = [1, 2, 3, 4]
    for _ in range(2):
        np.testing.assert_array_equal(grad(lambda x: np.sum(x * x))(mapped), 2 * np.array([1, 2, 3, 4]))
        np.testing.assert_array_equal(grad(lambda x: np.sum(x * mapped))(np.ones(4)), np.array([1, 2, 3, 4]))


# --- scalars


def test_floats_are_traced_and_weak():
    f = jit(lambda x, s: x * s)
    for value in (0.5, -2.0, np.inf, 1e300):
        assert f(np.ones(2), value)[0] == value
    assert f.traces == 1
    assert f(np.ones(2, np.float32), 0.5).dtype == np.float32
    assert f(np.ones(2, np.float32), np.float64(0.5)).dtype == np.float64
    assert np.isnan(f(1.0, float("nan")))


def test_float_subclasses_count_as_values():
    class Money(float):
        pass

    assert jit(lambda x, m: x * m)(2.0, Money(3.0)) == 6.0


@pytest.mark.parametrize("number", [3, np.int64(3), np.int8(3), np.uint16(3)])
def test_integers_are_static_by_value(number):
    seen = []
    f = jit(lambda x, n: (seen.append(is_traced(n)), np.sum(np.broadcast_to(x, (2, n))))[1])
    assert f(1.5, number) == 9.0 and seen == [False]
    g = grad(lambda x, n: x**n)
    for n in (2, 3, number, 2):
        assert g(2.0, n) == n * 2.0 ** (int(n) - 1)


def test_bool_int_and_integer_array_are_told_apart():
    f = jit(lambda x, n: (x, type(n).__name__))
    assert [f(1.0, n)[1] for n in (1, True, np.int64(1), np.True_, np.array(1), 1)] == [
        "int",
        "bool",
        "int64",
        "bool",
        "Array",
        "int",
    ]


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    ["text", None, True, np.float32, np.dtype(int), Color.RED, fractions.Fraction(1, 2), len, b"x", {1, 2}, range(3), ...],
    ids=repr,
)
def test_static_values(value):
    f = jit(lambda x, v: (x, v))
    for _ in range(2):
        assert f(1.0, value)[1] == value
    assert f.traces == 1


def test_a_changed_set_or_object_is_another_call():
    f = jit(lambda x, s: x * len(s))
    members = {1, 2}
    assert f(1.0, members) == 2.0
    members.add(3)
    members.remove(1)
    members.add(7)
    assert f(1.0, members) == 3.0

    class Plain:
        __hash__ = None

    plain = Plain()
    plain.k = 2.0
    g = grad(lambda x, p: x * p.k)
    assert g(1.0, plain) == 2.0
    plain.k = 5.0
    assert g(1.0, plain) == 5.0


def test_functions_as_arguments():
    f = grad(lambda x, act: np.sum(act(x)))
    x = np.array([0.5])
    for _ in range(2):
        np.testing.assert_allclose(f(x, np.sin), np.cos(x))
        np.testing.assert_allclose(f(x, np.exp), np.exp(x))
    assert f.traces == 2
    scale = 2.0
    act = lambda x: x * scale  # noqa: E731
    assert f(x, act) == 2.0
    scale = 3.0
    assert f(x, act) == 3.0


# --- containers


def test_containers_as_arguments():
    Point = collections.namedtuple("Point", "x y")

    @dataclasses.dataclass
    class Parameters:
        w: Any
        b: Any = 0.0
        name: str = "layer"

    def f(tree, *rest, **more):
        assert isinstance(tree["point"], Point) and tree["none"] is None and tree["parameters"].name == "layer"
        total = np.sum(tree["point"].x) * tree["point"].y + np.sum(tree["parameters"].w * tree["parameters"].b)
        return total + sum(rest) + sum(more.values())

    arguments = {
        "point": Point(np.ones(2), 3.0),
        "parameters": Parameters(np.ones((2, 2)), 2.0),
        "none": None,
        "list": [1.0, (2.0,)],
    }
    compiled = jit(f)
    for _ in range(2):
        assert compiled(arguments) == 6.0 + 8.0
        assert compiled(arguments, 1.0, 2.0, a=3.0) == 20.0
        assert compiled(arguments, a=3.0, b=4.0) == 21.0
        assert compiled(dict(reversed(arguments.items()))) == 14.0


def test_order_of_keywords_does_not_matter():
    f = jit(lambda *, a, b: a - b)
    assert (f(a=3.0, b=1.0), f(b=1.0, a=3.0)) == (2.0, 2.0)
    assert f.traces == 1


def test_dict_gradients_keep_key_order_and_kind():
    tree = collections.OrderedDict(z=1.0, a=np.ones(2))
    gradient = grad(lambda t: t["z"] * np.sum(t["a"]))(tree)
    assert type(gradient) is collections.OrderedDict and list(gradient) == ["z", "a"]
    mixed = {1: 2.0, "a": 3.0}
    assert grad(lambda t: t[1] * t["a"])(mixed) == {1: 3.0, "a": 2.0}


def test_empty_containers():
    assert jit(lambda x, e: (x, e))(1.0, ()) == (1.0, ())
    assert grad(lambda p: 2.0 * p[0]["a"])([{"a": 1.0}, {}, None, []]) == [{"a": 2.0}, {}, None, []]


def test_the_function_cannot_change_the_callers_containers_or_arrays():
    def f(x, tree):
        x += 1
        tree["new"] = 2 * x
        tree["list"].append(x)
        return np.sum(x * tree["new"])

    x, tree = np.ones(3), {"list": []}
    for tier in ("interpret", "compile"):
        derivative = grad(f, tier=tier)
        for _ in range(2):
            np.testing.assert_array_equal(derivative(x, tree), [8, 8, 8])
    assert (x == 1).all() and tree == {"list": []}


def test_one_array_passed_twice():
    x = np.array([1.0, 2.0])
    for _ in range(2):
        dx, dy = grad(lambda x, y: np.sum(x * x * y), argnums=(0, 1))(x, x)
        np.testing.assert_array_equal(dx, 2 * x * x)
        np.testing.assert_array_equal(dy, x * x)


def test_no_arguments():
    assert jit(lambda: np.zeros(2) + 1)().tolist() == [1.0, 1.0]


def test_many_arguments():
    values = [float(k) for k in range(300)]
    assert grad(lambda v: sum(x * x for x in v))(values) == [2.0 * v for v in values]


def test_equal_objects_of_the_users_are_different_arguments():
    class Layer:
        def __init__(self, name, weight):
            self.name, self.weight = name, weight

        def __eq__(self, other):
            return self.name == other.name

        def __hash__(self):
            return hash(self.name)

    f = grad(lambda x, layer: x * layer.weight)
    assert [f(1.0, Layer("a", float(k))) for k in range(4)] == [0.0, 1.0, 2.0, 3.0]


def test_a_compiled_call_allocates_its_outputs_and_nothing_else():
    """No copy of contiguous inputs, each output made once: NumPy tells tracemalloc what it allocates."""
    x, y = np.ones(100_000), np.ones((200, 500))
    f = grad(lambda x, y: np.sum(x * x) + np.sum(y * y * y), argnums=(0, 1))
    tree = grad(lambda t: np.sum(t["x"] * t["x"]) + np.sum(t["y"] * t["y"] * t["y"]))
    single = jit(lambda x: np.sin(x) + 1.0)
    for call, size in (
        (lambda: f(x, y), x.nbytes + y.nbytes),
        (lambda: tree({"x": x, "y": y}), x.nbytes + y.nbytes),
        (lambda: single(x), x.nbytes),
    ):
        call(), call()  # the second one compiles
        tracemalloc.start()
        try:
            result = call()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert size <= peak < size + 20_000
        del result
