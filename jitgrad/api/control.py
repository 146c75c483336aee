"""Loops and branches as functions, for those who know them from JAX: what plain Python statements do as well.

Outside of a trace they run as Python does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..errors import UsageTypeError, UsageValueError
from ..frontend.array import Array
from ..frontend.convert import as_array
from ..frontend.lift import lifted, stage
from ..frontend.lift.context import demanded
from ..frontend.lift.iterables import Lane, lane_of, traced_range
from ..frontend.trace import current
from ..numpy import zeros


def cond(pred, true_fun: Callable, false_fun: Callable, *operands) -> Any:
    """`true_fun(*operands)` if `pred` holds, else `false_fun(*operands)`; only one of them is computed.

    pred: a bool, or a traced number. Both functions return pytrees of one structure with leaves of one shape; dtypes are
    promoted. Raises UsageTypeError where they do not.

    >>> import jitgrad
    >>> f = lambda x: jitgrad.cond(x > 0, lambda x: x * x, lambda x: -x, x)
    >>> jitgrad.grad(f)(3.0), jitgrad.grad(f)(-3.0)
    (np.float64(6.0), np.float64(-1.0))
    """
    return stage.either(pred, lambda: lifted(true_fun)(*operands), lambda: lifted(false_fun)(*operands))


def switch(index, branches: Sequence[Callable], *operands) -> Any:
    """`branches[index](*operands)`, the index brought into range first; only that one is computed.

    index: an integer, plain or traced. Raises UsageValueError when there are no branches, UsageTypeError where their results
    differ in structure or shape.

    >>> import jitgrad
    >>> f = jitgrad.jit(lambda i, x: jitgrad.switch(i.astype(int), [lambda x: x, lambda x: x * x, lambda x: x**3], x))
    >>> [float(f(i, 2.0)) for i in (0.0, 1.0, 2.0, 9.0)]
    [2.0, 4.0, 8.0, 8.0]
    """
    if not branches:
        raise UsageValueError("switch needs at least one branch")
    last = len(branches) - 1

    def choose(k: int):
        if k == last:
            return lifted(branches[k])(*operands)
        return stage.either(index <= k, lambda: lifted(branches[k])(*operands), lambda: choose(k + 1))

    return choose(0)


def while_loop(cond_fun: Callable, body_fun: Callable, init_val) -> Any:
    """`val = body_fun(val)` for as long as `cond_fun(val)` holds. Differentiable in both modes, to any order.

    init_val: a pytree; `body_fun` returns one of the same structure and shapes. Raises UsageTypeError where it does not.

    >>> import jitgrad
    >>> double = lambda x: jitgrad.while_loop(lambda v: v < 100.0, lambda v: v * 2.0, x)
    >>> jitgrad.value_and_grad(double)(3.0)
    (np.float64(192.0), np.float64(64.0))
    """
    test, body = lifted(cond_fun), lifted(body_fun)
    left = stage.repeat(lambda val: test(val), lambda val: stage.fell({"val": body(val)}), ("val",), {"val": init_val}, True)
    return left.names["val"]


def fori_loop(lower, upper, body_fun: Callable, init_val) -> Any:
    """`val = body_fun(i, val)` for i from `lower` up to, but without, `upper`: plain or traced integers.

    init_val: a pytree; `body_fun` returns one of the same structure and shapes. Raises UsageTypeError where it does not.

    >>> import jitgrad
    >>> power = lambda x: jitgrad.fori_loop(0, 10, lambda i, val: val * x, 1.0)
    >>> jitgrad.grad(power)(1.0)
    np.float64(10.0)
    """
    body = lifted(body_fun)
    return _rolled(traced_range(lower, upper), lambda i, val: body(i, val), init_val)


def _rolled(items, step: Callable, init) -> Any:
    """The loop over `items` as one node inside of a trace, as Python does it outside."""
    if current() is None:
        for item in items:
            init = step(item, init)
        return init
    lane = lane_of(items)
    assert lane is not None
    with demanded():
        loop = stage.Loop(("val",), [init], {"val": init})
        return loop.over(lane, lambda i, val: stage.fell({"val": step(i, val)})).names["val"]


def scan(f: Callable, init, xs=None, length: int | None = None, reverse: bool = False, unroll: int = 1) -> tuple[Any, Any]:
    """`carry, y = f(carry, x)` for each x along the leading axis of `xs`; returns (the last carry, all y stacked).

    init: a pytree, whose structure and shapes `f` keeps. xs: a pytree of arrays with leading axes of one extent, or None with
    `length`. reverse: from the last x to the first. unroll: taken for JAX's sake; the loop is native code anyway.
    Raises UsageValueError for extents that differ or are not known.

    >>> import numpy as np
    >>> import jitgrad
    >>> @jitgrad.jit
    ... def running(x):
    ...     return jitgrad.scan(lambda total, v: (total + v, total + v), 0.0, x)
    >>> running(np.array([1.0, 2.0, 3.0]))
    (np.float64(6.0), array([1., 3., 6.]))
    """
    function = lifted(f)
    leaves, structure = tree.flatten(xs)
    count = _extent(leaves, length)
    if current() is not None:
        leaves = [as_array(leaf) for leaf in leaves]

    def item(i):
        return tree.unflatten(structure, [leaf[i] for leaf in leaves])

    if count == 0 or current() is None:
        return _plain_scan(function, init, item, count, reverse)
    with demanded():
        _, sample = function(init, item(0))  # of no use but for the shapes of y
    samples, results = tree.flatten(sample)
    arrays = [_room(count, sample) for sample in samples]

    def step(k, held):
        carry, stacked = held
        i = count - 1 - k if reverse else k
        carry, y = function(carry, item(i))
        for array, value in zip(stacked, tree.flatten(y)[0], strict=True):
            array[i] = value
        return carry, stacked

    carry, stacked = _rolled(Lane(count, lambda i: i), step, (init, arrays))
    return carry, tree.unflatten(results, stacked)


def _extent(leaves: list, length: int | None) -> int:
    extents = {int(np.shape(leaf)[0]) if np.ndim(leaf) else -1 for leaf in leaves}
    if length is not None:
        extents.add(length)
    if len(extents) != 1 or -1 in extents:
        raise UsageValueError(
            f"scan over leading axes of {', '.join(map(str, sorted(extents))) or 'no'} extents",
            "Arrays in xs need a leading axis of one extent; without xs, give length.",
        )
    return extents.pop()


def _plain_scan(function: Callable, init, item: Callable, count: int, reverse: bool) -> tuple[Any, Any]:
    found = []
    for k in range(count):
        init, y = function(init, item(count - 1 - k if reverse else k))
        found.append(y)
    if reverse:
        found.reverse()
    if not found:
        return init, None
    columns = zip(*(tree.flatten(y)[0] for y in found), strict=True)
    return init, tree.unflatten(tree.flatten(found[0])[1], [np.stack(column) for column in columns])


def _room(count: int, sample) -> Any:
    """Zeros for `count` values like `sample`: what a loop stores y into."""
    if not isinstance(sample, (Array, np.ndarray, np.generic, bool, int, float)):
        raise UsageTypeError(f"scan's function gave a {type(sample).__name__} as y", "Return numbers and arrays, or None.")
    dtype = sample.dtype if hasattr(sample, "dtype") else np.asarray(sample).dtype
    return zeros((count, *np.shape(sample)), dtype)


def map(f: Callable, xs) -> Any:
    """`f(x)` for each x along the leading axis of `xs`, a pytree of arrays; the results stacked.

    >>> import numpy as np
    >>> import jitgrad
    >>> jitgrad.jit(lambda x: jitgrad.map(lambda row: np.sum(row * row), x))(np.arange(6.0).reshape(3, 2))
    array([ 1., 13., 41.])
    """
    function = lifted(f)
    return scan(lambda carry, x: (carry, function(x)), (), xs)[1]


def associative_scan(fn: Callable, elems, reverse: bool = False, axis: int = 0) -> Any:
    """Running results of an associative `fn(a, b)` along `axis`: elems[0], fn(elems[0], elems[1]), ...

    elems: a pytree of arrays of one extent along `axis`; `fn` works on slices of any extent along it, as JAX's users know.
    reverse: from the other end.

    >>> import numpy as np
    >>> import jitgrad
    >>> jitgrad.jit(lambda x: jitgrad.associative_scan(np.multiply, x))(np.array([1.0, 2.0, 3.0, 4.0]))
    array([ 1.,  2.,  6., 24.])
    """
    combine = lifted(fn)
    leaves, structure = tree.flatten(elems)
    moved = [np.moveaxis(leaf, axis, 0) for leaf in leaves]
    count = _extent(moved, None)
    if count < 2:
        return elems

    def whole(parts):
        return tree.unflatten(structure, [np.moveaxis(np.expand_dims(part, 0), 0, axis) for part in parts])

    def parts_of(value):
        return [np.moveaxis(leaf, axis, 0)[0] for leaf in tree.flatten(value)[0]]

    def step(before, now):
        made = parts_of(combine(whole(before), whole(now)))
        return made, made

    first = moved[0].shape[0] - 1 if reverse else 0
    rest = [leaf[:-1] if reverse else leaf[1:] for leaf in moved]
    start = [leaf[first] for leaf in moved]
    _, found = scan(step, start, rest, reverse=reverse)
    joined = [
        np.concatenate([many, np.expand_dims(one, 0)] if reverse else [np.expand_dims(one, 0), many])
        for one, many in zip(start, found, strict=True)
    ]
    return tree.unflatten(structure, [np.moveaxis(leaf, 0, axis) for leaf in joined])
