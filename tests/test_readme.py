"""README.md is true: its snippets print what stands below them, its tables are those of the registry and the options.

    python tests/test_readme.py     # writes the printed outputs and the tables anew
"""

from __future__ import annotations

import contextlib
import inspect
import io
import linecache
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np

import jitgrad
from jitgrad.config import OPTIONS
from jitgrad.frontend.registry import NUMPY_FUNCTIONS, UFUNCS
from jitgrad.ir.primitive import PRIMITIVES

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SNIPPET = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
FILE = "tour.py"  # what messages and graphs call the snippets' file


# --- snippets


def run_snippets(text: str) -> list[str]:
    """What each snippet prints; the last lines of the traceback where it raises."""
    namespace: dict = {"__name__": "__main__"}
    return [_printed(match[1], namespace) for match in SNIPPET.finditer(text)]


def _printed(source: str, namespace: dict) -> str:
    linecache.cache[FILE] = len(source), None, source.splitlines(keepends=True), FILE
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(source, FILE, "exec", dont_inherit=True), namespace)
        except jitgrad.JitgradError as error:
            print(f"{type(error).__module__}.{type(error).__name__}: {error}")
    return out.getvalue()


def with_outputs(text: str) -> str:
    """`text` with what the snippets print now."""
    outputs = iter(run_snippets(text))

    def fill(match: re.Match) -> str:
        shown = next(outputs)
        block = f"```text\n{shown}```\n" if shown else ""
        return f"```python\n{match[1]}```\n{block}"

    return SNIPPET.sub(fill, text)


# --- tables


def between(text: str, name: str) -> str:
    """What stands between the marks `<!-- name -->` and `<!-- /name -->`."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert found is not None, f"README.md has no marks for {name}"
    return found[1]


def with_tables(text: str) -> str:
    for name, table in (("operations", operations_table()), ("options", options_table())):
        old = between(text, name)
        text = text.replace(f"<!-- {name} -->\n{old}<!-- /", f"<!-- {name} -->\n{table}<!-- /")
    return text


def covered() -> dict[str, set[str]]:
    """NumPy's names that have a rule, by the module that has it."""
    found: dict[str, set[str]] = {"ufuncs": {u.__name__ for u in UFUNCS if _is_numpys(u)}}
    found["ufuncs"] |= {p.ufunc.__name__ for p in PRIMITIVES.values() if p.ufunc is not None}
    for function, rule in NUMPY_FUNCTIONS.items():
        name = ("linalg." if "linalg" in function.__module__ else "") + function.__name__
        found.setdefault(inspect.unwrap(rule).__module__.rpartition(".")[2].strip("_"), set()).add(name)
    return found


def _is_numpys(ufunc: np.ufunc) -> bool:
    return getattr(np, ufunc.__name__, None) is ufunc


def operations_table() -> str:
    rows = [f"| {where} | {' '.join(f'`{name}`' for name in sorted(names))} |" for where, names in sorted(covered().items())]
    return "\n".join(["| | |", "|---|---|", *rows]) + "\n"


def options_table() -> str:
    rows = [f"| `{o.name}` | `{o.variable}` | `{o.default!r}` | {o.doc} |" for o in OPTIONS]
    return "\n".join(["| option | variable | default | |", "|---|---|---|---|", *rows]) + "\n"


# --- tests


def test_snippets_print_what_readme_says():
    """In a process of their own, as they declare an operation; its generated tests are run there, too."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JITGRAD_")} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__, "check"], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_operations_table_is_that_of_the_registry():
    listed = set(re.findall(r"`([\w.]+)`", between(README.read_text(), "operations")))
    known = {name for names in covered().values() for name in names}
    assert listed >= known, f"run python tests/test_readme.py; missing: {sorted(known - listed)}"
    assert not {name for name in listed - known if _numpy_has(name)}


def _numpy_has(name: str) -> bool:
    where = np
    for part in name.split("."):
        where = getattr(where, part, None)
    return where is not None


def test_the_options_table_is_that_of_the_options():
    assert between(README.read_text(), "options") == options_table()


def test_files_that_readme_names_exist():
    text = README.read_text()
    architecture = text[text.index("## Architecture") : text.index("## Configuration")]
    paths = [*(ROOT / "jitgrad").rglob("*"), *(ROOT / "tests").iterdir(), ROOT / "jitgrad", ROOT / "tests"]
    for name in re.findall(r"`((?:\w+/)*\w+(?:\.py|/))`", architecture):
        assert any(path.as_posix().endswith("/" + name.rstrip("/")) for path in paths), name
    for name in re.findall(r"\]\(([\w/.]+)\)", text):
        assert (ROOT / name).exists(), name


def test_the_commands_install_what_pyproject_has():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    commands = [line for line in README.read_text().splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    for command in commands:
        (extra,) = re.findall(r'-e "\.\[(\w+)\]"', command)
        assert extra in extras
    assert "pytest" in commands[1] and "pytest" not in README.read_text().split(commands[1])[0]


def test_the_check_sees_a_snippet_that_prints_something_else():
    text = "```python\nprint(1 + 1)\n```\n```text\n2\n```\n"
    assert with_outputs(text) == text
    for wrong in (text.replace("1 + 1", "1 + 2"), text.replace("text\n2", "text\n2\n2"), text.replace("\n2", "")):
        assert with_outputs(wrong) != wrong


# --- as a script


def main(arguments: list[str]) -> None:
    text = README.read_text()
    if arguments == ["check"]:
        printed = with_outputs(text)
        assert printed == text, _first_difference(text, printed)
        _run_generated_tests("logistic")
    else:
        README.write_text(with_tables(with_outputs(text)))


def _first_difference(old: str, new: str) -> str:
    pairs = enumerate(zip(old.splitlines(), new.splitlines(), strict=False), 1)
    line, (said, printed) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
    return f"README.md:{line} says\n  {said}\nbut printed is\n  {printed}"


def _run_generated_tests(name: str) -> None:
    """The tests of tests/test_every_op.py that take an operation's name, for the one that README declares."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from tests import test_every_op

    tests = [f for n, f in vars(test_every_op).items() if n.startswith("test_")]
    tests = [f for f in tests if list(inspect.signature(f).parameters) == ["name"]]
    assert len(tests) >= 5
    for test in tests:
        test(name)


if __name__ == "__main__":
    main(sys.argv[1:])
