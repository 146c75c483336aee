"""Which names statements read and bind, and how they may leave the block they stand in."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Sequence

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Names(ast.NodeVisitor):
    """Collects, of statements of one function: names that are bound, names that are read (by functions inside too), names
    that functions inside capture, and names declared global or nonlocal."""

    def __init__(self, nodes: Iterable[ast.AST] = ()):
        self.bound: dict[str, None] = {}
        self.read: dict[str, None] = {}
        self.captured: Counter[str] = Counter()
        self.elsewhere: set[str] = set()
        for node in nodes:
            self.visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.read[node.id] = None
        else:
            self.bound[node.id] = None

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.read[node.target.id] = None
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.elsewhere.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.elsewhere.update(node.names)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.bound[(alias.asname or alias.name).split(".")[0]] = None

    visit_ImportFrom = visit_Import  # type: ignore[assignment]

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.bound[node.name] = None
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.bound[node.name] = None
        for outer in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(outer)
        self._inner(node.body, node.args)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for outer in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(outer)
        self._inner([node.body], node.args)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.bound[node.name] = None
        for outer in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(outer)
        self._inner(node.body, None)

    def _inner(self, body: Sequence[ast.AST], arguments: ast.arguments | None) -> None:
        inner = Names(body)
        own = set(inner.bound) - inner.elsewhere
        if arguments is not None:
            own.update(argument_names(arguments))
        free = {**inner.read, **dict.fromkeys(inner.elsewhere)}
        for name in free:
            if name not in own:
                self.read[name] = None
                self.captured[name] += 1

    def _comprehension(self, node) -> None:
        inner = Names()
        for part in node.generators:
            inner.visit(part)
        for value in ("elt", "key", "value"):
            if hasattr(node, value):
                inner.visit(getattr(node, value))
        targets = Names([part.target for part in node.generators]).bound
        self.read.update(dict.fromkeys(name for name in inner.read if name not in targets))
        self.captured.update(inner.captured)
        self.bound.update(dict.fromkeys(name for name in inner.bound if name not in targets))  # by :=

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension


def defined(name: str, arguments: ast.arguments, body: list[ast.stmt]) -> ast.FunctionDef:
    """`def name(arguments): body`, without decorators."""
    made = ast.FunctionDef(name, arguments, body, [], None, None)
    if "type_params" in ast.FunctionDef._fields:  # Python 3.12 and later
        vars(made)["type_params"] = []
    return made


def argument_names(arguments: ast.arguments) -> list[str]:
    found = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return found + [a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None]


def root_of(node: ast.AST) -> str | None:
    """The name that a chain of subscripts and attributes begins with."""
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def jumps(nodes: Iterable[ast.AST], loops: bool = False) -> set[str]:
    """How statements may leave their block: "return", "break", "continue". In `loops`, breaks belong to those."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, _SCOPES):
            continue
        if isinstance(node, ast.Return):
            found.add("return")
        elif isinstance(node, (ast.Break, ast.Continue)):
            if not loops:
                found.add("break" if isinstance(node, ast.Break) else "continue")
        elif isinstance(node, (ast.For, ast.While)):
            found |= jumps(node.body, True) | jumps(node.orelse, loops)
        else:
            found |= jumps(ast.iter_child_nodes(node), loops)
    return found


def contains(nodes: Iterable[ast.AST], kinds) -> bool:
    """Whether one of `kinds` is in the nodes, functions inside left out."""
    for node in nodes:
        if isinstance(node, kinds):
            return True
        if not isinstance(node, _SCOPES) and contains(ast.iter_child_nodes(node), kinds):
            return True
    return False
