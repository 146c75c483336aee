"""Every option there is, in one table: its environment variable, its default and what it does."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from operator import index
from pathlib import Path
from typing import Any, NamedTuple

from .errors import UsageTypeError, UsageValueError


class Option(NamedTuple):
    """One option: `read` turns the environment variable's text, or a value that was set, into the option's value."""

    name: str
    default: Any
    read: Callable[[Any], Any]
    doc: str

    @property
    def variable(self) -> str:
        return "JITGRAD_" + self.name.upper()


def _words(value) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else value
    return tuple(word.strip() for word in words if word.strip())


def _optional_folder(value) -> Path | None:
    return Path(value) if value else None


def _cache_folder(value) -> str | None:
    if value is None:
        return None
    folder = os.fspath(value).strip()
    return "" if folder.lower() in ("", "0", "no", "off") else folder


def _flag(value) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "no", "false", "off")
    return bool(value)


def _optional_count(value) -> int | None:
    if value is None or value == "":
        return None
    count = int(value)
    if count < 0:
        raise ValueError("a count cannot be negative")
    return count


def read_threads(value) -> int | None:
    """A number of threads: None, or at least 1."""
    if value is None or value == "":
        return None
    count = int(value) if isinstance(value, str) else index(value)
    if isinstance(value, bool) or count < 1:
        raise ValueError("a number of threads, at least 1")
    return count


def _megabytes(value) -> int:
    return _optional_count(value) or 0


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value):
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return str(value)

    return read


OPTIONS = (
    Option("show", (), _words, "stages to print whenever a function is compiled: traced,optimized,llvm or all"),
    Option("dump", None, _optional_folder, "a folder that gets the text of every stage, one file each"),
    Option("time", False, _flag, "print how long each stage took"),
    Option("skip", (), _words, "passes to leave out, by name"),
    Option("fuel", None, _optional_count, "stop rewriting after this many rewrites (to find a wrong one by bisection)"),
    Option("fastmath", False, _flag, "native code may reorder sums, fuse multiply-adds, divide by reciprocals"),
    Option("target", "cpu", _one_of("cpu", "numpy"), "cpu: native code; numpy: the interpreter"),
    Option("threads", None, read_threads, "most threads that a call uses; None: as many as the process may use"),
    Option("cache_dir", None, _cache_folder, "a folder for machine code, in place of the user's cache folder; off: none"),
    Option("cache_size", 256, _megabytes, "megabytes of machine code to keep on disk, the last used"),
    Option("lift", True, _flag, "loops and branches of a function's source become loops and branches of its graph"),
)


class Options(NamedTuple):
    """The values of all options, in the order of the table."""

    show: tuple[str, ...]
    dump: Path | None
    time: bool
    skip: tuple[str, ...]
    fuel: int | None
    fastmath: bool
    target: str
    threads: int | None
    cache_dir: str | None
    cache_size: int
    lift: bool


assert Options._fields == tuple(option.name for option in OPTIONS)


def _read(option: Option, value) -> Any:
    try:
        return option.read(value)
    except (ValueError, TypeError) as error:
        raise UsageValueError(
            f"{value!r} is no value for the option {option.name} ({option.variable})", f"Wanted: {error}"
        ) from None


def _from_environment() -> Options:
    found = (os.environ.get(option.variable) for option in OPTIONS)
    return Options(*(_read(o, o.default if text is None else text) for o, text in zip(OPTIONS, found, strict=True)))


_BY_NAME = {option.name: option for option in OPTIONS}
_override: ContextVar[Options | None] = ContextVar("jitgrad_options", default=None)


class Config:
    """The options, as attributes.

    Setting an attribute changes the option for the whole process; `with config(target="numpy"):` changes it for the
    calls inside the block, in this thread or task only.

    >>> from jitgrad.config import config
    >>> with config(target="numpy"):
    ...     config.target
    'numpy'
    """

    __slots__ = ("base",)
    base: Options

    def __init__(self):
        object.__setattr__(self, "base", _from_environment())

    def options(self) -> Options:
        """All options as they stand here: one record, the same object as long as nothing changes."""
        return _override.get() or self.base

    def __getattr__(self, name: str):
        if name not in _BY_NAME:
            raise AttributeError(_unknown(name))
        return getattr(_override.get() or self.base, name)

    def __setattr__(self, name: str, value) -> None:
        object.__setattr__(self, "base", _changed(self.base, {name: value}))

    @contextmanager
    def __call__(self, **options):
        token = _override.set(_changed(self.options(), options))
        try:
            yield self
        finally:
            _override.reset(token)

    def __dir__(self):
        return list(_BY_NAME)

    def __repr__(self) -> str:
        return "\n".join(
            f"{option.name} = {getattr(self, option.name)!r}  # {option.variable}: {option.doc}" for option in OPTIONS
        )


def _unknown(name: str) -> str:
    return f"there is no option {name!r}; options are {', '.join(_BY_NAME)}"


def _changed(options: Options, changes: dict) -> Options:
    for name in changes:
        if name not in _BY_NAME:
            raise UsageTypeError(_unknown(name))
    return _one(options._replace(**{name: _read(_BY_NAME[name], value) for name, value in changes.items()}))


@lru_cache(maxsize=256)
def _one(options: Options) -> Options:
    """The one record with these values: calls compare records by identity."""
    return options


config = Config()
