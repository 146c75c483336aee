"""Nested containers: flattened to leaves, and built again.

Containers are tuple, list, dict (also OrderedDict, defaultdict, deque), namedtuple, None (which has no leaves) and
dataclass instances. Anything else is a leaf.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

import optree

NAMESPACE = "jitgrad"
_registered: set[type] = set()
_registering = threading.Lock()


def flatten(tree) -> tuple[list, optree.PyTreeSpec]:
    """The leaves of `tree`, and its structure: hashable, equal for equal structures."""
    leaves, structure = optree.tree_flatten(tree, namespace=NAMESPACE)
    if _register_dataclasses(set(map(type, leaves))):
        return flatten(tree)
    return leaves, structure


Reader = Callable[[Any, list], bool]
_READ_DEPTH = 50


def reader(structure: optree.PyTreeSpec, depth: int = _READ_DEPTH) -> Reader | None:
    """A quick way to the leaves of trees of this structure: a few times as fast as `flatten` and a comparison.

    `read(tree, leaves)` appends the tree's leaves, without asking what they are, and says whether the containers are those
    of the structure. None for structures with other containers than plain tuples, lists, dicts and None, or deep ones.
    """
    kind = structure.type
    if structure.is_leaf():
        return _read_leaf
    if kind is type(None):
        return _read_none
    if kind not in (tuple, list, dict) or depth == 0:
        return None
    children = [reader(child, depth - 1) for child in structure.children()]
    if None in children:
        return None
    keys = structure.entries() if kind is dict else []
    select = itemgetter(*keys) if len(keys) > 1 else (lambda tree: [tree[key] for key in keys]) if keys else None
    return _container_reader(kind, select, children)


def _read_leaf(tree, leaves: list) -> bool:
    leaves.append(tree)
    return True


def _read_none(tree, leaves: list) -> bool:
    return tree is None


def _container_reader(kind: Any, select: Callable | None, children: list) -> Reader:
    """Of a tuple or list, or of a dict whose values `select` gives in order."""
    count = len(children)
    only_leaves = all(child is _read_leaf for child in children)

    def read(tree: Any, leaves: list) -> bool:
        if type(tree) is not kind or len(tree) != count:
            return False
        try:
            parts = tree if select is None else select(tree)
        except KeyError:
            return False
        if only_leaves:
            leaves += parts
            return True
        for child, part in zip(children, parts):  # noqa: B905, SIM110  (counted above; a loop is faster)
            if not child(part, leaves):
                return False
        return True

    return read


def unflatten(structure: optree.PyTreeSpec, leaves: Iterable) -> Any:
    """The tree of this structure with these leaves: containers are new ones."""
    return structure.unflatten(leaves)


def map_leaves(function: Callable, tree) -> Any:
    """`tree` with each leaf replaced by `function(leaf)`."""
    leaves, structure = flatten(tree)
    return structure.unflatten([function(leaf) for leaf in leaves])


def leaf_names(structure: optree.PyTreeSpec, root: str) -> list[str]:
    """How a user would write each leaf, `root` being the whole tree: `params['w'][0]`."""
    return [accessor.codify(root) for accessor in structure.accessors()]


def is_leaf(structure: optree.PyTreeSpec) -> bool:
    return structure.is_leaf()


def _register_dataclasses(kinds: Iterable[type]) -> bool:
    """Makes the dataclasses among `kinds` containers; whether there was any."""
    found = False
    for kind in kinds:
        if hasattr(kind, "__dataclass_fields__"):
            with _registering:
                if kind not in _registered:
                    _register(kind)
            found = True
    return found


def _register(kind: type) -> None:
    names = tuple(field.name for field in dataclasses.fields(kind))

    def take_apart(instance):
        return [getattr(instance, name) for name in names], names, names

    def put_together(_, values):
        # Not through __init__: it may check or convert values, and fields may be left out of it.
        instance: Any = object.__new__(kind)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(instance, name, value)
        return instance

    optree.register_pytree_node(
        kind, take_apart, put_together, path_entry_type=optree.GetAttrEntry, namespace=NAMESPACE
    )
    _registered.add(kind)
