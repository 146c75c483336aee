"""Nodes, and how they are made: typed, immutable, interned.

Interning belongs to a scope (one trace, or the compilation of one graph): within a scope the same operation on the same
operands is one node, so common subexpressions vanish by construction. The table dies with its scope: a plain dict costs
0.5 to 0.6 us a node, where one process-wide table of weak references took several.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter

import numpy as np

from ..errors import InternalError, Location, user_location
from .aval import Aval, aval_of
from .collector import paused
from .primitive import Leaf, Primitive


class Node:
    """One operation applied to operands. Never mutated; compared by identity.

    `params` is a dict with the keys in the order that the primitive's builder gives them: do not change it.
    `where` is the user's line that made the node; it is not part of the node's identity.
    """

    __slots__ = ("primitive", "operands", "params", "aval", "where", "__weakref__")

    def __init__(self, primitive: Primitive, operands: tuple, params: dict, aval: Aval, where: Location | None):
        self.primitive, self.operands, self.params, self.aval, self.where = primitive, operands, params, aval, where

    shape = property(lambda self: self.aval.shape)
    dtype = property(lambda self: self.aval.dtype)
    ndim = property(lambda self: len(self.aval.shape))

    def __repr__(self) -> str:
        return f"<{self.primitive.name} {self.aval}>"

    # Arithmetic for derivative rules: equal avals on both sides, or a Python number, which takes the node's aval.
    # The primitives are found by name, as the operations are declared above this layer.
    def __add__(self, other):
        return apply(_PRIMITIVES["add"], self, other if type(other) is Node else like(self, other))

    def __sub__(self, other):
        return apply(_PRIMITIVES["subtract"], self, other if type(other) is Node else like(self, other))

    def __mul__(self, other):
        return apply(_PRIMITIVES["multiply"], self, other if type(other) is Node else like(self, other))

    def __truediv__(self, other):
        return apply(_PRIMITIVES["divide"], self, other if type(other) is Node else like(self, other))

    def __radd__(self, other):
        return call("add", like(self, other), self)

    def __rsub__(self, other):
        return call("subtract", like(self, other), self)

    def __rmul__(self, other):
        return call("multiply", like(self, other), self)

    def __rtruediv__(self, other):
        return call("divide", like(self, other), self)

    def __neg__(self):
        return call("negative", self)

    def __lt__(self, other):
        return apply(_PRIMITIVES["less"], self, other if type(other) is Node else like(self, other))

    def __le__(self, other):
        return apply(_PRIMITIVES["less_equal"], self, other if type(other) is Node else like(self, other))

    def __gt__(self, other):
        return apply(_PRIMITIVES["greater"], self, other if type(other) is Node else like(self, other))

    def __ge__(self, other):
        return apply(_PRIMITIVES["greater_equal"], self, other if type(other) is Node else like(self, other))


class Interning:
    """A table of nodes; `where`, when set, is the line that new nodes get instead of the user's current one.

    `facts` is for what derivative rules work out about nodes and want to remember for as long as the nodes live.
    """

    __slots__ = ("table", "where", "facts")

    def __init__(self):
        self.table: dict = {}
        self.facts: dict = {}
        self.where: Location | None = None


_scope: ContextVar[Interning | None] = ContextVar("jitgrad_interning", default=None)


@contextmanager
def interning(nodes: Iterable[Node] = ()):
    """Opens a scope unless one is open already; nodes can be made only inside one.

    `nodes`, with all their operands, are taken over from a scope that has ended.
    """
    scope = _scope.get()
    if scope is not None:
        yield scope
        return
    scope = Interning()
    scope.table = {_key(node): node for node in nodes if node.primitive is not INPUT}
    token = _scope.set(scope)
    try:
        with paused():
            yield scope
    finally:
        _scope.reset(token)


def scope() -> Interning:
    """The open scope."""
    found = _scope.get()
    if found is None:
        raise InternalError("a node was made outside of an interning scope")
    return found


@contextmanager
def blamed_on(where: Location | None):
    """Nodes made inside are said to come from the line `where` (None: from the line that is running)."""
    current = scope()
    outer, current.where = current.where, where
    try:
        yield
    finally:
        current.where = outer


_aval_of = attrgetter("aval")


def apply(primitive: Primitive, *operands: Node, **params) -> Node:
    """The node of `primitive` on `operands`: the one there is, or a new one.

    Parameters must be hashable, and always of one type under one name (True == 1 == 1.0 would be taken for one).
    """
    current = _scope.get() or scope()
    key = (primitive, operands, *params.values()) if params else (primitive, operands)
    node = current.table.get(key)
    if node is None:
        aval = primitive.aval(*map(_aval_of, operands), **params)
        node = Node(primitive, operands, params or _NO_PARAMS, aval, current.where or user_location(2))
        current.table[key] = node
    return node


_NO_PARAMS: dict = {}  # one for all: graphs are kept, and what they consist of costs the garbage collector time


def call(name: str, *operands: Node, **params) -> Node:
    """`apply` of the primitive called `name`."""
    return apply(_PRIMITIVES[name], *operands, **params)


def _leaf_aval(*, value=None, aval=None, **_):
    return aval


INPUT = Primitive("input", reference=lambda **_: None, aval=_leaf_aval, code=Leaf())
CONSTANT = Primitive("constant", reference=lambda value: value, aval=_leaf_aval, code=Leaf())
from .primitive import PRIMITIVES as _PRIMITIVES  # noqa: E402  (after the two leaves are declared)


def fresh_input(aval: Aval) -> Node:
    """A new input: never the same node as any other."""
    return Node(INPUT, (), _NO_PARAMS, aval, user_location(2))


_PADDED = np.finfo(np.longdouble).nmant == 63  # 80 bits in 12 or 16 bytes


def bits_of(number: np.generic | np.ndarray) -> bytes:
    """The bytes that tell a number from all others: without the padding of an 80-bit longdouble, which holds anything."""
    raw = number.tobytes()
    return raw[:10] if _PADDED and number.dtype.char == "g" else raw


def constant(value, dtype) -> Node:
    """The 0-d constant `value` of `dtype`. Told apart by bits: 0.0 and -0.0 differ, nan is nan."""
    scalar = value if type(value) is np.dtype(dtype).type else np.asarray(value, dtype)[()]
    current = _scope.get() or scope()
    key = _constant_key(scalar)
    node = current.table.get(key)
    if node is None:
        node = Node(CONSTANT, (), {"value": scalar}, aval_of((), scalar.dtype), current.where or user_location(2))
        current.table[key] = node
    return node


def _constant_key(scalar) -> tuple:
    return CONSTANT, scalar.dtype, bits_of(scalar)


def _key(node: Node) -> tuple:
    """Under what a scope's table has the node."""
    if node.primitive is CONSTANT:
        return _constant_key(node.params["value"])
    return node.primitive, node.operands, *node.params.values()


def is_present(node: Node) -> bool:
    """Whether the open scope would give `node` for the same operation: not once the body that it belongs to is closed."""
    return node.primitive is INPUT or scope().table.get(_key(node)) is node


def full(value, aval: Aval) -> Node:
    """`value` at every place of `aval`."""
    if not value or type(value) not in (int, float):  # 0.0 and -0.0 are equal, but two constants
        return _full(value, aval)
    table = scope().table
    key = (full, type(value), value, aval.shape, aval.dtype)
    node = table.get(key)
    if node is None:
        node = table[key] = _full(value, aval)
    return node


def _full(value, aval: Aval) -> Node:
    node = constant(value, aval.dtype)
    return node if not aval.shape else call("broadcast", node, shape=aval.shape, axes=())


def like(node: Node, other) -> Node:
    """`other` as an operand beside `node`: itself, or a Python number spread over `node`'s aval."""
    return other if isinstance(other, Node) else full(other, node.aval)


def constant_value(node: Node):
    """The number that `node` is everywhere (a constant, or one broadcast), or None."""
    while node.primitive.name == "broadcast":
        node = node.operands[0]
    return node.params["value"] if node.primitive is CONSTANT else None
