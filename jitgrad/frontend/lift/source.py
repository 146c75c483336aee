"""The syntax tree of a function, from its file or a notebook's cell."""

from __future__ import annotations

import ast
import inspect
import linecache
from functools import lru_cache
from types import CodeType

Definition = ast.FunctionDef | ast.Lambda


def definition_of(code: CodeType) -> Definition | None:
    """The `def` or `lambda` that `code` was compiled from; None where its source is not to be had or not to be told apart."""
    tree = _parsed(code.co_filename, tuple(linecache.getlines(code.co_filename)))
    if tree is None:
        return None
    found = [node for node in tree.get(code.co_firstlineno, ()) if _fits(node, code)]
    if len(found) > 1:
        found = [node for node in found if isinstance(node, ast.Lambda) and _column(node) == _first_column(code)]
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=64)
def _parsed(file: str, lines: tuple[str, ...]) -> dict[int, list[Definition]] | None:
    """The definitions in a file by the line that their code says it begins at."""
    if not lines:
        return None
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        return None
    found: dict[int, list[Definition]] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            first = node.decorator_list[0].lineno if isinstance(node, ast.FunctionDef) and node.decorator_list else node.lineno
            found.setdefault(first, []).append(node)
    return found


def _fits(node: Definition, code: CodeType) -> bool:
    name = node.name if isinstance(node, ast.FunctionDef) else "<lambda>"
    arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    count = code.co_argcount + code.co_kwonlyargcount
    return name == code.co_name and tuple(arguments) == code.co_varnames[:count]


def _column(node: ast.Lambda) -> int:
    return node.body.col_offset


def _first_column(code: CodeType) -> int | None:
    start = code.co_firstlineno, 0  # where the function as a whole is said to begin
    columns = [c for line, _, c, _ in code.co_positions() if c is not None and (line, c) != start]
    return min(columns, default=None)


def is_plain(code: CodeType) -> bool:
    """Whether it is an ordinary function: no generator, coroutine or body of a class."""
    special = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
    return not code.co_flags & special
