"""Bodies: graphs as parameters of loops and branches, equal when they compute the same.

A body is closed: it reads nothing but its inputs, what it takes from outside being operands of the node that it is a
parameter of. To work on a body, open it: that puts nodes in the place of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .aval import Aval, StackAval
from .graph import Graph, structure, topological, with_operands
from .node import CONSTANT, Node, call, fresh_input, scope
from .primitive import Control


class Body:
    """A closed graph. Two bodies are equal if they are the same but for node identity and source lines."""

    __slots__ = ("graph", "flows", "loop_flows", "_hash", "_structure")

    def __init__(self, graph: Graph):
        self.graph = graph
        self.flows: tuple[frozenset[int], ...] | None = None  # see `transforms.activity`, which fills them in
        self.loop_flows: tuple[frozenset[int], ...] | None = None
        self._structure: tuple | None = None
        self._hash: int | None = None

    @property
    def structure(self) -> tuple:
        if self._structure is None:
            self._structure = structure(self.graph)
        return self._structure

    @property
    def input_avals(self) -> tuple[Aval, ...]:
        return tuple(node.aval for node in self.graph.inputs)

    @property
    def output_avals(self) -> tuple[Aval, ...]:
        return tuple(node.aval for node in self.graph.outputs)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.structure)
        return self._hash

    def __eq__(self, other) -> bool:
        return self is other or (
            isinstance(other, Body) and hash(self) == hash(other) and self.structure == other.structure
        )

    def __repr__(self) -> str:
        return f"<body of {len(self.graph.nodes)} nodes>"

    def opened(self, inputs: Sequence[Node]) -> list[Node]:
        """The outputs, as nodes on `inputs` in the open scope. Stacks that start empty get numbers of their own."""
        return exchanged(self.graph.outputs, dict(zip(self.graph.inputs, inputs, strict=True)), _renumbered)

    def fresh_inputs(self) -> list[Node]:
        """New inputs to open the body with."""
        return [fresh_input(node.aval) for node in self.graph.inputs]


def close(inputs: Sequence[Node], outputs: Sequence[Node]) -> Body:
    """The body that computes `outputs` from `inputs`; both may be any nodes, but nothing else may be under `outputs`
    than these and constants. What is made on the way does not stay in the scope's table."""
    table = scope().table
    mark = len(table)
    fresh = [fresh_input(node.aval) for node in inputs]
    numbers: dict[Node, int] = {}

    def numbered(node: Node) -> Node:
        if node.primitive.name != "empty":
            return node
        return call("empty", aval=node.params["aval"], number=numbers.setdefault(node, len(numbers)))

    outputs = up_to_date(outputs, set(inputs))
    closed = exchanged(outputs, dict(zip(inputs, fresh, strict=True)), numbered)
    forget_from(mark)
    return Body(Graph(tuple(fresh), tuple(closed)))


def empty_stack(element: Aval) -> Node:
    """A stack of values of `element` with nothing on it, unlike any other in the scope."""
    facts = scope().facts
    number = facts["stacks"] = facts.get("stacks", 0) + 1
    return call("empty", aval=element, number=number)


def _renumbered(node: Node) -> Node:
    return empty_stack(node.params["aval"]) if node.primitive.name == "empty" else node


# --- what changes from step to step


def mark_changing(carries: Sequence[Node]) -> None:
    """Notes that these inputs of an opened body are other values at each step."""
    scope().facts.setdefault("changing", set()).update(carries)


def is_unchanging(node: Node) -> bool:
    """Whether no step of a loop whose body is open changes `node`. What comes from a stack is never taken from it twice."""
    facts = scope().facts
    changing = facts.get("changing", ())
    stack = [node]
    while stack:
        current = stack[-1]
        if ("unchanging", current) not in facts:
            missing = [o for o in current.operands if ("unchanging", o) not in facts]
            if missing:
                stack += missing
                continue
            fixed = current not in changing and not isinstance(current.aval, StackAval)
            facts["unchanging", current] = fixed and all(facts["unchanging", o] for o in current.operands)
        stack.pop()
    return facts["unchanging", node]


# --- loops and branches that derivatives put more into: the old ones are not run beside the new


def extend(old: Node, new: Node) -> None:
    """Notes that `new`, a loop or a branch, gives all that `old` gives, in the same order, and more; of a loop's results the
    count stays the last. Nothing is noted if `new` reads what `old` gives."""
    if old is not new and old not in between(new.operands, ()):
        scope().facts.setdefault("extended", {})[old] = new


def latest(node: Node) -> Node:
    """What has been put in the place of a loop or branch; itself if nothing has."""
    extended = scope().facts.get("extended", {})
    while node in extended:
        node = extended[node]
    return node


def up_to_date(roots: Iterable[Node], barrier=()) -> list[Node]:
    """`roots` with the latest of each loop and branch; nothing under nodes of `barrier` is looked at."""
    roots = list(roots)
    if not scope().facts.get("extended"):
        return roots
    done: dict[Node, Node] = {}
    pending = [(root, False) for root in roots]
    while pending:
        node, ready = pending.pop()
        if node in done:
            continue
        if node in barrier:
            done[node] = node
            continue
        newest = _newest(node)
        below = [operand for operand in newest.operands if operand not in done]
        if below and not ready:
            pending.append((node, True))
            pending += [(operand, False) for operand in below]
            continue
        rebuilt = done[node] = with_operands(newest, done)
        if rebuilt is not newest and isinstance(newest.primitive.code, Control):
            extend(newest, rebuilt)
    return [done[root] for root in roots]


def moved(roots: Iterable[Node], images: dict[Node, Node]) -> list[Node]:
    """`roots` on other leaves: `images` has these, and gets the image of each node. What takes the place of a loop or
    branch does so among the images too."""
    roots = list(roots)
    for node in topological(roots):
        if node not in images:
            images[node] = with_operands(node, images)
    for old, new in list(scope().facts.get("extended", {}).items()):
        if old in images and new in images and images[old] is not old:
            extend(images[old], images[new])
    return [images[root] for root in roots]


def _newest(node: Node) -> Node:
    """A part of a tuple as the part of what has been put in the tuple's place."""
    if node.primitive.name != "get":
        return node
    old = node.operands[0]
    new = latest(old)
    if new is old:
        return node
    part = node.params["part"]
    if old.primitive.name == "loop" and part == old.params["carries"]:
        part = new.params["carries"]
    return call("get", new, part=part)


def forget_from(mark: int) -> list[tuple]:
    """Takes what came into the scope's table after its length was `mark` out again; gives the entries, oldest first."""
    table = scope().table
    taken = []
    while len(table) > mark:
        taken.append(table.popitem())
    return taken[::-1]


def exchanged(roots: Iterable[Node], replaced: dict[Node, Node], leaf: Callable[[Node], Node] | None = None) -> list[Node]:
    """`roots` with nodes exchanged as `replaced` says; nothing under an exchanged node is looked at. `leaf` maps the other
    nodes without operands."""
    roots = list(roots)
    done = dict(replaced)
    for node in between(roots, replaced):
        if node not in done:
            done[node] = with_operands(node, done) if node.operands or leaf is None else leaf(node)
    return [done[root] for root in roots]


def between(roots: Iterable[Node], barrier) -> list[Node]:
    """The nodes under `roots`, operands before their users, those of `barrier` included but nothing under them."""
    done: dict[Node, None] = {}
    for root in roots:
        path = [] if root in done else [(root, iter(() if root in barrier else root.operands))]
        while path:
            node, operands = path[-1]
            for operand in operands:
                if operand not in done:
                    path.append((operand, iter(() if operand in barrier else operand.operands)))
                    break
            else:
                done[node] = None
                path.pop()
    return list(done)


def is_constant(node: Node) -> bool:
    """Whether `node` is a number, or one spread out: bodies have their own."""
    while node.primitive.name == "broadcast":
        node = node.operands[0]
    return node.primitive is CONSTANT
