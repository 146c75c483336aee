"""The `__array_ufunc__` protocol: calls with out=, where=, dtype=, casting=, and the methods of ufuncs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import Limitation, UsageError, UsageTypeError
from ..ir.node import Node, call
from .aliasing import check_unshared
from .convert import as_array, broadcast_shapes, cast, kind_of, spread
from .folds import accumulate, reduce
from .handle import Handle, array_of, check_scope
from .loops import ufunc_loop
from .operators import call_elementwise, store

_IGNORED = ("order", "subok")  # memory layout and subclasses: nothing that a traced array has


def array_ufunc(ufunc: np.ufunc, method: str, inputs: tuple, options: dict):
    """What NumPy calls when a ufunc meets a traced array."""
    if method == "__call__":
        if not options and ufunc.signature is None:
            return _one_or_all(call_elementwise(ufunc, inputs))
        return call_ufunc(ufunc, *inputs, **options)
    handler = _METHODS.get(method)
    if handler is None:
        advice = "Build the result with np.bincount, np.concatenate or jitgrad.numpy functions instead of in place."
        raise Limitation(f"np.{ufunc.__name__}.{method} is not supported on traced values", advice)
    out = options.pop("out", None)
    target = _target(out, ufunc) if out is not None else None
    result = handler(ufunc, *inputs, **options)
    if target is None:
        return result
    store(target, result, ufunc)
    return target


def call_ufunc(
    ufunc: np.ufunc, *inputs, out=None, where=True, dtype=None, signature=None, casting="same_kind", **options
):
    """`ufunc(*inputs, ...)`, all keywords of NumPy's call."""
    for name in _IGNORED:
        options.pop(name, None)
    targets = [_target(one, ufunc) for one in out] if out is not None else [None] * ufunc.nout
    signature = _signature(ufunc, dtype, signature or options.pop("sig", None))
    if ufunc.signature is not None:
        results = _call_generalized(ufunc, inputs, signature, casting, options)
    elif options:
        raise UsageTypeError(f"np.{ufunc.__name__} got an unexpected keyword argument {next(iter(options))!r}")
    elif where is not True:
        return _one_or_all(_call_where(ufunc, inputs, where, targets, signature, casting))
    else:
        results = call_elementwise(ufunc, inputs, signature, casting)
    return _one_or_all(_stored(ufunc, results, targets))


def _one_or_all(results: tuple):
    return results[0] if len(results) == 1 else results


def _stored(ufunc: np.ufunc, results, targets) -> tuple:
    """The results, in the handles given by out= where there are some."""
    for result, target in zip(results, targets, strict=True):
        if target is not None:
            store(target, result, ufunc)
    return tuple(r if t is None else t for r, t in zip(results, targets, strict=True))


def _target(out, ufunc: np.ufunc) -> Handle | None:
    """A traced array given by out=; a plain one cannot take traced values."""
    if isinstance(out, tuple):
        (out,) = out
    if out is None:
        return None
    if isinstance(out, Handle):
        check_scope(out)
        check_unshared(out)
        return out
    raise UsageTypeError(
        f"the result of np.{ufunc.__name__} is traced, it cannot be written into a plain NumPy array (out=, or x += y)",
        "Make a new array of it: x = x + y, or x = np.add(x, y) without out=.",
    )


def _signature(ufunc: np.ufunc, dtype, signature) -> tuple | None:
    """NumPy's `signature=`, or what `dtype=` stands for: the dtype of all outputs."""
    if signature is not None:
        if isinstance(signature, str) or not isinstance(signature, tuple):
            raise Limitation("signature= on traced values must be a tuple of dtypes", "Use dtype= instead.")
        return tuple(None if one is None else np.dtype(one) for one in signature)
    return None if dtype is None else (None,) * ufunc.nin + (np.dtype(dtype),) * ufunc.nout


def _call_generalized(ufunc: np.ufunc, inputs, signature, casting: str, options: dict) -> tuple[Handle, ...]:
    """matmul and its kin: operands in the loop's dtypes, shapes as they are."""
    arrays = [as_array(value) for value in inputs]
    loop = ufunc_loop(ufunc, tuple(map(kind_of, arrays)), signature, casting)
    result = loop.build(*[cast(a.node, dtype) for a, dtype in zip(arrays, loop.operands, strict=True)], **options)
    return tuple(map(array_of, result)) if isinstance(result, tuple) else (array_of(result),)


# --- where=

def _call_where(ufunc: np.ufunc, inputs, where, targets, signature, casting: str) -> tuple:
    if any(target is None for target in targets):
        raise UsageError(
            f"np.{ufunc.__name__} with where= but without out= leaves the other places undefined",
            "Give out=, a traced array or one made by np.zeros_like(x), or use np.where.",
        )
    mask = as_array(where).node
    if mask.aval.dtype.kind != "b":
        raise UsageTypeError(f"where= must be bool, it is {mask.aval.dtype}", "Use a comparison: x != 0.")
    results = call_elementwise(ufunc, inputs, signature, casting)
    masked = [_select(mask, result, target) for result, target in zip(results, targets, strict=True)]
    return _stored(ufunc, masked, targets)


def _select(mask: Node, result: Handle, target: Handle) -> Handle:
    shape = broadcast_shapes(result.node.aval.shape, mask.aval.shape, target.node.aval.shape)
    old = target.node
    if not np.can_cast(result.node.aval.dtype, old.aval.dtype, "same_kind"):
        return result  # `store` refuses it
    new = cast(result.node, old.aval.dtype)
    return array_of(call("select", spread(mask, shape), spread(new, shape), spread(old, shape)))


# --- methods


def outer(ufunc: np.ufunc, x, y, **options):
    """ufunc(x[i, j], y[k, ...]) for all pairs of places."""
    x, y = as_array(x), as_array(y)
    node = x.node
    if y.ndim:
        node = call("reshape", node, shape=node.aval.shape + (1,) * y.ndim)
    return call_ufunc(ufunc, array_of(node, x.weak), y, **options)


_METHODS: dict[str, Callable] = {"reduce": reduce, "accumulate": accumulate, "outer": outer}
