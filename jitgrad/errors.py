"""What can go wrong, typed by blame, and where in the user's code it went wrong.

`UsageError` is the user's to mend, `Limitation` is a known gap of jitgrad, `InternalError` is a bug of jitgrad.
Every message says what happened, where in the user's file, and what to do, in fewer than eight lines.
"""

from __future__ import annotations

import linecache
import os
import sys
from types import FrameType
from typing import NamedTuple

import numpy as np

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_NUMPY = os.path.dirname(os.path.abspath(np.__file__))
_SCIPY = os.path.join(os.path.dirname(_NUMPY), "scipy")
# Frames of these never are "the user's line": our own, those of NumPy and SciPy, and code made on the fly ("<...>"
# names of the standard library's dataclasses and the like; a notebook's cells have real names).
_SKIPPED = (_PACKAGE, _NUMPY + os.sep, _SCIPY + os.sep, "<__array_function__", "<frozen ", "<string>")
_skipped_files: set[str] = set()  # those seen so far: the walk below is made for every node


class Location(NamedTuple):
    """A line of the user's source."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def source(self) -> str:
        """The text of the line, without indentation; empty where no source is to be had."""
        return linecache.getline(self.file, self.line).strip()


_latest = Location("", 0)


def _at(file: str, line: int) -> Location:
    """The location: the same object as before where several nodes in a row come from one line."""
    global _latest
    latest = _latest
    if latest.line != line or latest.file is not file:
        latest = _latest = Location(file, line)
    return latest


def user_location(depth: int = 1) -> Location | None:
    """The innermost line on the stack that is not jitgrad's, NumPy's or SciPy's own; None where there is none."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        file = frame.f_code.co_filename
        if file not in _skipped_files:
            if not file.startswith(_SKIPPED):
                return _at(file, frame.f_lineno)
            _skipped_files.add(file)
        frame = frame.f_back
    return None


class JitgradError(Exception):
    """Base of all errors that jitgrad raises itself.

    `what` happened, `todo` is the advice, `where` the user's line (found on the stack when not given).
    """

    def __init__(self, what: str, todo: str | None = None, where: Location | None = None):
        self.what, self.todo = what, todo
        self.where = where or user_location(2)
        super().__init__(self._message())

    def _message(self) -> str:
        lines = [self.what]
        if self.where is not None:
            source = self.where.source
            lines.append(f"  at {self.where}" + (f"\n    {source}" if source else ""))
        if self.todo:
            lines.append(f"  {self.todo}")
        return "\n".join(lines)


class UsageError(JitgradError):
    """Something in the calling code must change."""


class UsageTypeError(UsageError, TypeError):
    """A value of the wrong kind or type."""


class UsageValueError(UsageError, ValueError):
    """A value of the right type that does not fit (shapes, axes, ranges)."""


class UsageIndexError(UsageError, IndexError):
    """An index outside the array."""


class UsageOverflowError(UsageError, OverflowError):
    """A Python number outside the range of the dtype that it has to take."""


class Limitation(JitgradError, NotImplementedError):
    """jitgrad cannot do this yet; names the rule that is missing and where it would go."""


class InternalError(JitgradError):
    """A bug in jitgrad."""

    def __init__(self, what: str, where: Location | None = None):
        super().__init__(what, "This is a bug in jitgrad: please report it with the function that shows it.", where)
