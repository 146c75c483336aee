"""Nested containers: flattened to leaves, and built again.

Containers are tuple, list, dict (also OrderedDict, defaultdict, deque), namedtuple, None (which has no leaves) and
dataclass instances. Anything else is a leaf.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from typing import Any

import optree

NAMESPACE = "jitgrad"
_registered: set[type] = set()
_registering = threading.Lock()


def flatten(tree) -> tuple[list, optree.PyTreeSpec]:
    """The leaves of `tree`, and its structure: hashable, equal for equal structures."""
    leaves, structure = optree.tree_flatten(tree, namespace=NAMESPACE)
    if _register_dataclasses(leaves):
        return flatten(tree)
    return leaves, structure


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


def _register_dataclasses(leaves: Iterable) -> bool:
    """Makes the classes of dataclass instances among `leaves` containers; whether there was any."""
    found = False
    for leaf in leaves:
        kind = type(leaf)
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
