"""Every ufunc and operator on every pair of dtypes: NumPy's dtype, NumPy's values, NumPy's refusals."""

from __future__ import annotations

import operator
import warnings

import numpy as np
import pytest

import jitgrad.numpy  # noqa: F401  (fills the tables)
from jitgrad.errors import UsageOverflowError, UsageTypeError, UsageValueError
from jitgrad.frontend.convert import promote, promote_dtypes, result_dtype
from jitgrad.frontend.loops import ufunc_loop
from tests.traced_helpers import assert_close, assert_same, evaluate, session

DTYPES = [np.dtype(code) for code in "?bBhHiIqQefd"]
UFUNCS = sorted(
    {u for u in vars(np).values() if isinstance(u, np.ufunc) and u.signature is None and u is not np.isnat},
    key=lambda u: u.__name__,
)
# Composed of several operations, each rounded: their results may differ from NumPy's in the last places.
ROUNDED = {np.logaddexp: 4, np.logaddexp2: 4, np.power: 16, np.float_power: 16}


def sample(dtype: np.dtype, places: int) -> np.ndarray:
    values = {"b": [1, 0, 1], "u": [3, 0, 2], "i": [-3, 0, 2], "f": [0.75, -0.0, -1.5]}[dtype.kind]
    return np.roll(np.array(values).astype(dtype), places)


def quiet(function, *arguments):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*arguments)


def check(ufunc, function, *arguments):
    """`function` on traced arguments as on plain ones: the same results, or errors of the same class."""
    try:
        expected = quiet(function, *arguments)
    except (TypeError, ValueError, OverflowError) as error:
        kind = next(k for k in (OverflowError, TypeError, ValueError) if isinstance(error, k))
        with pytest.raises(kind):
            evaluate(function, *arguments)
        return
    found = evaluate(function, *arguments)
    pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    for one, other in pairs:
        if ufunc in ROUNDED:
            assert_close(one, other, ROUNDED[ufunc])
        else:
            assert_same(one, other)


@pytest.mark.parametrize("ufunc", [u for u in UFUNCS if u.nin == 1], ids=lambda u: u.__name__)
def test_unary_ufuncs_on_every_dtype(ufunc):
    for dtype in DTYPES:
        check(ufunc, ufunc, sample(dtype, 0))


@pytest.mark.parametrize("ufunc", [u for u in UFUNCS if u.nin == 2], ids=lambda u: u.__name__)
def test_binary_ufuncs_on_every_pair_of_dtypes(ufunc):
    for first in DTYPES:
        for second in DTYPES:
            x, y = sample(first, 0), sample(second, 1)
            if ufunc in (np.power, np.ldexp) and second.kind == "i":
                y = abs(y)  # negative integer powers are refused when their values are known, see below
            check(ufunc, ufunc, x, y)


@pytest.mark.parametrize("ufunc", [u for u in UFUNCS if u.nin == 2], ids=lambda u: u.__name__)
@pytest.mark.parametrize("number", [True, 2, -3, 300, 1.5, 2**40, -0.0], ids=str)
def test_python_numbers_are_weak(ufunc, number):
    for dtype in DTYPES:
        x = sample(dtype, 0)
        if ufunc is np.ldexp and abs(number) > 2**31:
            continue
        check(ufunc, lambda x: ufunc(x, number), x)
        if ufunc in (np.power, np.float_power):
            x = abs(x)
        check(ufunc, lambda x: ufunc(number, x), x)


OPERATORS = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne,
    operator.and_, operator.or_, operator.xor, divmod,
]  # fmt: skip


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
def test_operators_with_strong_and_weak_operands(op):
    others = [True, 3, -2, 2.5, np.float64(2.5), np.float32(2.5), np.int8(3), np.uint8(200), np.True_, np.array(2.5)]
    for dtype in DTYPES:
        x = sample(dtype, 0)
        for other in [*others, sample(np.dtype("f"), 1), sample(np.dtype("h"), 1)]:
            check(None, lambda x, other=other: op(x, other), x)
            check(None, lambda x, other=other: op(other, x), x)
            check(None, op, x, np.asarray(other))


@pytest.mark.parametrize("op", [*OPERATORS, operator.pow], ids=lambda op: op.__name__)
def test_traced_python_numbers_compute_as_python_does(op):
    """The dtype is Python's; and the result stays weak beside arrays."""
    single = np.ones(2, np.float32)
    for x in (True, 7, 2.5):
        for y in (True, 3, 1.5):
            try:
                expected = op(x, y)
            except TypeError:
                continue
            results = expected if isinstance(expected, tuple) else (expected,)
            for arguments, function in (((x, y), op), ((x,), lambda x, y=y: op(x, y)), ((y,), lambda y, x=x: op(x, y))):
                found = evaluate(function, *arguments)
                for one, other in zip(found if isinstance(found, tuple) else (found,), results, strict=True):
                    assert_close(one, np.asarray(other))
            if op is not divmod and type(expected) is not bool:
                beside = evaluate(lambda s, x, y: op(x, y) * s, single, x, y)
                assert_close(beside, expected * single)


def test_unary_operators_of_traced_python_numbers():
    for value in (True, -3, 2.5):
        for op in (operator.neg, operator.pos, abs):
            assert_same(evaluate(op, value), op(value))
    assert_same(evaluate(lambda n: ~n, 5), ~5)
    assert_same(evaluate(lambda n: ~n, True), -2)


def test_a_ufunc_makes_python_numbers_strong():
    single = np.ones(2, np.float32)
    assert evaluate(lambda a, s: np.sin(a) * s, 1.0, single).dtype == np.float64
    assert evaluate(lambda a, s: a * s, 1.0, single).dtype == np.float32
    assert evaluate(lambda a, s: np.add(a, s), 1.0, single).dtype == np.float32


def test_numbers_out_of_range():
    with pytest.raises(UsageOverflowError, match="300 out of bounds for uint8"):
        evaluate(lambda x: x + 300, np.ones(2, np.uint8))
    with pytest.raises(OverflowError):
        evaluate(lambda x: 2**64 - x, np.ones(2, np.int64))
    assert_same(evaluate(lambda x: x * 1e300, np.ones(2, np.float32)), np.full(2, np.inf, np.float32))


@pytest.mark.parametrize("op", OPERATORS[6:12], ids=lambda op: op.__name__)
def test_comparison_with_integers_out_of_range(op):
    for code in "bBHiQq":
        x = sample(np.dtype(code), 0)
        for number in (-1, 300, -300, 2**63, -(2**63), 2**70, -(2**70)):
            assert_same(evaluate(lambda x, n=number: op(x, n), x), op(x, number))
            assert_same(evaluate(lambda x, n=number: op(n, x), x), op(number, x))


@pytest.mark.parametrize("op", OPERATORS[6:12], ids=lambda op: op.__name__)
def test_int64_and_uint64_compare_exactly(op):
    signed = np.array([-1, 2**63 - 1, 5, -(2**63)])
    unsigned = np.array([2**64 - 1, 2**63, 5, 2**63], np.uint64)
    assert_same(evaluate(op, signed, unsigned), op(signed, unsigned))
    assert_same(evaluate(op, unsigned, signed), op(unsigned, signed))
    narrow = np.array([250, 1], np.uint8)
    assert_same(evaluate(op, narrow, 1000), op(narrow, 1000))
    assert_same(evaluate(op, -5, narrow), op(-5, narrow))


POWERS = [0, 1, 2, 3, -1, -2, 0.5, -0.5, 1.5, 2.0, 3.0, 64, 65, np.int64(3), True]


@pytest.mark.parametrize("exponent", POWERS, ids=repr)
def test_powers(exponent):
    special = [0.0, -0.0, 1.0, -2.0, 3.5, np.inf, -np.inf, np.nan]
    for x in (np.array(special), np.array(special, np.float32), np.array([3, -2, 0]), np.array([2, 5], np.uint8)):
        for function in (lambda x: x**exponent, lambda x: np.power(x, exponent), lambda x: np.float_power(x, exponent)):
            check(np.power, function, x)


@pytest.mark.parametrize("value", [0.0, -0.0, -np.inf, np.inf, 4.0, np.nan])
def test_square_root_as_power_of_scalars_is_pow(value):
    """x ** 0.5 is sqrt for arrays, C's pow for scalars: they differ at -0.0 and -inf."""
    x = np.array([value, 4.0])
    for function in (lambda x: x[0] ** 0.5, lambda x: x**0.5, lambda x: x[0] ** 2.0, lambda x: x.sum() ** 0.5):
        assert_same(evaluate(function, x), quiet(function, x))


def test_negative_integer_powers_are_refused():
    with pytest.raises(UsageValueError, match="negative integer powers"):
        evaluate(lambda x: x**-2, np.array([1, 2]))
    assert_same(evaluate(lambda n: n**-2, 2), np.float64(0.25))


def test_dtype_signature_and_casting():
    x = np.array([1.0, 2.5], np.float32)
    for function in (
        lambda x: np.add(x, 1, dtype=np.float64),
        lambda x: np.sin(x, dtype="f8"),
        lambda x: np.add(x, x, signature=(None, None, np.float64)),
        lambda x: np.add(x, 1.5, dtype=np.int32, casting="unsafe"),
        lambda x: np.multiply(x, np.float64(2), dtype=np.float32),
    ):
        assert_same(evaluate(function, x), function(x))
    with pytest.raises(UsageTypeError):
        evaluate(lambda x: np.add(x, 1.5, dtype=np.int32), x)


def test_loops_are_numpys_own():
    """Spot checks in plain sight, beside the exhaustive comparison above."""
    f2, f4, f8, i1, i8, u8 = map(np.dtype, ("e", "f", "d", "b", "q", "Q"))
    assert ufunc_loop(np.sin, (i1,)).results == (f2,)
    assert ufunc_loop(np.sin, (i8,)).results == (f8,)
    assert ufunc_loop(np.divide, (i8, i8)).results == (f8,)
    assert ufunc_loop(np.add, (i8, u8)).results == (f8,)
    assert ufunc_loop(np.multiply, (f4, float)).results == (f4,)
    assert ufunc_loop(np.multiply, (f4, f8)).results == (f8,)


def test_promote():
    with session() as opened:
        x = opened.input(np.ones((2, 1), np.float32))
        nodes = promote(x, 2.5, np.ones(3, np.int8))
        assert [(n.dtype, n.shape) for n in nodes] == [(np.float32, (2, 3))] * 3
        values = opened.compute(nodes)
        assert_same(values[1], np.full((2, 3), 2.5, np.float32))
        nodes = promote_dtypes(x, [1.0, 2.0])
        assert [(n.dtype, n.shape) for n in nodes] == [(np.float64, (2, 1)), (np.float64, (2,))]
    for kinds in [(DTYPES[3], float), (int, bool), (DTYPES[0], int), (DTYPES[2], int), (float,), (DTYPES[9], DTYPES[6])]:
        plain = [{bool: True, int: 1, float: 1.0}.get(kind, kind) for kind in kinds]
        assert result_dtype(*kinds) == np.result_type(*plain)
