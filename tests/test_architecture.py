"""Imports run one way, and at the top of the file; files stay short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "jitgrad"
FILES = sorted(ROOT.rglob("*.py"))

# What a module may import: its own layer, and the layers before it. jitgrad.numpy and the passes do not know each other.
LAYERS = (
    ("errors",),
    ("config", "stages", "tree"),
    ("ir",),
    ("frontend",),
    ("transforms",),
    ("ops",),
    ("numpy", "scipy", "random"),
    ("passes",),
    ("lowering",),
    ("backends",),
    ("runtime",),
    ("api", "cache", "inspection"),
    ("train", "optim", "nn", "torch"),
    ("__init__",),
)
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
APART = {("passes", "numpy"), ("lowering", "numpy"), ("backends", "numpy")}

# Heavy or optional: may be imported where they are first used.
LATE = {"numba", "scipy", "matplotlib", "cuda", "torch", "cupy", "numba_cuda"}
LONGEST = 580  # about 500, said with some room


def part_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_modules(tree: ast.AST, file: Path):
    """(node, module as a tuple of names from the top, whether it is jitgrad's) of each import."""
    package = ("jitgrad", *file.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            for alias in node.names:
                yield node, (*module, alias.name)


def upward_imports(text: str, file: Path) -> list[str]:
    """The imports in `text`, the contents of `file`, that go against the order of the layers."""
    found = []
    part = part_of(file)
    for node, module in imported_modules(ast.parse(text), file):
        if module[0] != "jitgrad" or len(module) < 2 or part == "__init__":
            continue
        target = module[1]
        if target not in LEVEL:
            found.append(f"line {node.lineno}: jitgrad.{target} is in no layer")
        elif LEVEL[target] > LEVEL[part] or (part, target) in APART:
            found.append(f"line {node.lineno}: {part} imports {target}")
    return found


def late_imports(text: str, file: Path) -> list[str]:
    """Imports inside functions, but for heavy and optional packages."""
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [
        f"line {node.lineno}: {function.name} imports {'.'.join(module)}"
        for function in functions
        for node, module in imported_modules(function, file)
        if module[0] not in LATE
    ]


def module_name(file: Path) -> tuple[str, ...]:
    names = ("jitgrad", *file.relative_to(ROOT).with_suffix("").parts)
    return names[:-1] if names[-1] == "__init__" else names


def import_graph(texts: dict[Path, str]) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """For each module of jitgrad, those that it imports. What a name is imported from counts, not the packages around."""
    modules = {module_name(file) for file in texts}
    graph = {}
    for file, text in texts.items():
        imported = [module for _, module in imported_modules(ast.parse(text), file)]
        found = (module if module in modules else module[:-1] for module in imported)
        graph[module_name(file)] = sorted({module for module in found if module in modules})
    return graph


def import_cycles(texts: dict[Path, str]) -> list[list[str]]:
    """The sets of modules that reach each other by imports (Tarjan 1972: strongly connected components)."""
    graph = import_graph(texts)
    order: dict[tuple, int] = {}
    lowest: dict[tuple, int] = {}
    stack: list[tuple] = []
    cycles = []

    def visit(module):
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for imported in graph[module]:
            if imported not in order:
                visit(imported)
            if imported in stack:
                lowest[module] = min(lowest[module], lowest[imported])
        if lowest[module] == order[module]:
            at = stack.index(module)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1 or module in graph[module]:
                cycles.append(sorted(".".join(one) for one in component))

    for module in graph:
        if module not in order:
            visit(module)
    return cycles


def test_no_modules_import_each_other():
    assert not import_cycles({file: file.read_text() for file in FILES})


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_run_one_way(file):
    assert part_of(file) in LEVEL, f"say in LAYERS where {part_of(file)} belongs"
    assert not upward_imports(file.read_text(), file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_are_at_the_top(file):
    assert not late_imports(file.read_text(), file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_are_short_and_say_their_job(file):
    text = file.read_text()
    assert len(text.splitlines()) <= LONGEST
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "a module opens with its job"


def test_the_checks_see_what_they_are_for():
    file = ROOT / "ir" / "graph.py"
    assert upward_imports("from ..frontend.trace import capture", file)
    assert upward_imports("from .. import api", file)
    assert upward_imports("def f():\n    from ..frontend import array", file)
    assert upward_imports("import jitgrad.runtime.compile", file)
    assert upward_imports("from ..unheard_of import x", file)
    assert not upward_imports("from .node import Node\nfrom ..errors import UsageError\nimport numpy", file)
    assert late_imports("def f():\n    import dis", file)
    assert not late_imports("import dis\ndef f():\n    import numba", file)


def test_cycles_are_seen():
    one, two, three, apart = (ROOT / "ir" / f"{name}.py" for name in ("one", "two", "three", "apart"))
    texts = {one: "from .two import x", two: "from . import three, apart", three: "import jitgrad.ir.one", apart: ""}
    assert import_cycles(texts) == [["jitgrad.ir.one", "jitgrad.ir.three", "jitgrad.ir.two"]]
    assert not import_cycles({**texts, three: "from .apart import one"})
    assert import_cycles({one: "from .one import x"}) == [["jitgrad.ir.one"]]
