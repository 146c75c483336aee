"""x[key] = v on traced arrays: the handle takes a new value, in which the elements at the key are replaced.

Where a key says static places (slices, integers) it is a `put`; elements and rows at traced integers are a `scatter_set`;
for any other key the places are those that the same key picks out of an array of numbered places.
"""

from __future__ import annotations

import numpy as np

from ..errors import Limitation, UsageValueError
from ..ir.node import Node, call
from .aliasing import check_unshared, rebind
from .convert import WEAK, as_array, broadcast_shapes, cast, contains_traced, spread, spread_number
from .handle import Handle, array_of, check_scope
from .indexing import Cut, New, Pick, index, parse_key

_INT64 = np.dtype(np.int64)


def set_item(x: Handle, key, value) -> None:
    """x[key] = value, as NumPy: cast to x's dtype, broadcast to the shape of x[key]."""
    check_scope(x)
    check_unshared(x)
    if not x.node.aval.shape and not _is_whole(key):
        index(x, key)  # refuses
    if _is_there_already(x, key, value):
        return
    mask = _traced_mask(x, key)
    rebind(x, _masked(x, mask, value) if mask is not None else _stored(x, key, value))


def _is_there_already(x: Handle, key, value) -> bool:
    """Whether `value` is the view x[key] itself: then `x[key] += 1` has been done by the view."""
    if not isinstance(value, Handle) or value.memory is None or value.memory is not x.memory or value.path is None:
        return False
    if contains_traced(list(key) if isinstance(key, tuple) else [key]):
        return False
    there = index(x, key)
    return there.memory is x.memory and there.path is not None and list(map(_step, there.path)) == list(map(_step, value.path))


def _step(node: Node) -> tuple:
    return node.primitive, tuple(node.params.items()), node.operands[1:]


def _is_whole(key) -> bool:
    return key is Ellipsis or (isinstance(key, tuple) and not key)


def _traced_mask(x: Handle, key) -> Handle | None:
    """The key if it is a traced mask."""
    if isinstance(key, tuple) and len(key) == 1:
        (key,) = key
    if isinstance(key, Handle) and key.checked().node.aval.dtype.kind == "b":
        return key
    return None


def _masked(x: Handle, mask: Handle, value) -> Node:
    """x with `value` where `mask` holds: it decides among elements, so their number need not be known."""
    aval, where = x.node.aval, mask.node
    if where.aval.shape != aval.shape[: where.aval.ndim]:
        raise UsageValueError(f"a mask of shape {where.aval.shape} for an array of shape {aval.shape}")
    given = _value(value, aval.dtype)
    rest = aval.shape[where.aval.ndim :]
    if len(given.aval.shape) > len(rest):
        raise Limitation(
            "x[mask] = v with a traced mask and a value for each of its places: how many there are is not known",
            "Use a single value, or np.where(mask, values, x) with values of x's shape.",
        )
    full_mask = call("broadcast", where, shape=aval.shape, axes=tuple(range(where.aval.ndim)))
    return call("select", full_mask, _fitted(given, aval.shape), x.node)


def _value(value, dtype: np.dtype) -> Node:
    if type(value) in WEAK:
        if dtype.kind in "iu" and type(value) is float:
            value = int(value)
        return spread_number(value, dtype, ())
    return cast(as_array(value).node, dtype)


def _fitted(value: Node, shape: tuple[int, ...]) -> Node:
    """The value broadcast to `shape`; axes of extent 1 before it may be too many."""
    have = value.aval.shape
    while len(have) > len(shape) and have[0] == 1:
        have = have[1:]
    try:
        fits = broadcast_shapes(have, shape) == shape
    except UsageValueError:
        fits = False
    if not fits:
        raise UsageValueError(f"could not broadcast input array from shape {value.aval.shape} into shape {shape}")
    value = value if have == value.aval.shape else call("reshape", value, shape=have)
    return spread(value, shape)


def _stored(x: Handle, key, value) -> Node:
    node = x.node
    items = key if isinstance(key, tuple) else (key,)
    given = _value(value, node.aval.dtype)
    shape, parts = parse_key(node.aval.shape, items)
    if not any(type(part) is Pick for part in parts):
        return _put(node, shape, parts, given)
    plain = _plain_indices(parts)
    if plain is not None and shape == node.aval.shape:
        row = node.aval.shape[len(plain) :]
        return call("scatter_set", node, _fitted(given, row), *plain)
    return _at_places(node, items, given)


def _put(node: Node, shape: tuple[int, ...], parts: list, value: Node) -> Node:
    """Into a region that is known."""
    cuts = [part for part in parts if type(part) is Cut]
    picked = tuple(
        part.length if type(part) is Cut else 1 for part in parts if (part.keeps if type(part) is Cut else not part.gap)
    )
    region = tuple(cut.length for cut in cuts)
    value = _fitted(value, picked)
    value = value if value.aval.shape == region else call("reshape", value, shape=region)
    if region == node.aval.shape and all(cut.step == 1 for cut in cuts):
        return value
    return call("put", node, value, starts=tuple(c.start for c in cuts), steps=tuple(c.step for c in cuts))


def _plain_indices(parts: list) -> list[Node] | None:
    """The indices of an element or a row: single integers along the leading axes, the other axes whole."""
    found: list[Node] = []
    whole = False
    for part in parts:
        if type(part) is New:
            if not part.gap:
                return None
        elif type(part) is Pick and not part.indices.aval.shape and not whole:
            found.append(part.indices)
        elif type(part) is Cut and not part.keeps and not whole:
            found.append(spread_number(part.start, _INT64, ()))
        elif type(part) is Cut and part.keeps and part.start == 0 and part.step == 1:
            whole = True
        else:
            return None
    return found


def _at_places(node: Node, items: tuple, value: Node) -> Node:
    """At the places that the key picks out of an array of numbered places."""
    size = node.aval.size
    numbers = call("reshape", call("iota", shape=(size,), axis=0, dtype=_INT64), shape=node.aval.shape)
    places = index(array_of(numbers), items).node
    flat = call("scatter_set", call("reshape", node, shape=(size,)), _fitted(value, places.aval.shape), places)
    return call("reshape", flat, shape=node.aval.shape)
