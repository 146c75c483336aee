"""Which of the user's functions run during a trace.

Python 3.12 and later tell of function starts through `sys.monitoring`, earlier ones through the trace function, where
a debugger's or coverage tool's own is called as well and put back at the end.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType
from typing import Any

from ..errors import user_location
from ..ir.node import _scope

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = tuple(
    {_PACKAGE} | {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_PACKAGE_FOLDERS = (os.sep + "site-packages" + os.sep, os.sep + "dist-packages" + os.sep)


@functools.lru_cache(maxsize=4096)
def is_library(file: str) -> bool:
    """Whether code in `file` belongs to jitgrad, the standard library or an installed package."""
    return file.startswith((*_LIBRARIES, "<frozen ", "<__array_function__")) or any(f in file for f in _PACKAGE_FOLDERS)


_monitoring_tools: Any = getattr(sys, "monitoring", None)  # Python 3.12 and later

Seen = Callable[[CodeType, dict], None]
_listener: ContextVar[Seen | None] = ContextVar("jitgrad_function_starts", default=None)


@contextmanager
def listening(seen: Seen):
    """Calls `seen(code, globals)` whenever a function of the user starts in this thread."""
    token = _listener.set(seen)
    start = _start_monitoring if _monitoring_tools else _start_tracing
    stop = start()
    try:
        yield
    finally:
        stop()
        _listener.reset(token)


def unwatched(function: Callable) -> Callable:
    """`function`, which calls none of the user's: while it runs, function starts are not reported.

    For the hot paths of tracing: before Python 3.12 each report costs as much as a function call of Python's.
    """
    if _monitoring_tools:
        return function

    @functools.wraps(function)
    def quiet(*args, **kwargs):
        if sys.gettrace() is not _hook:
            return function(*args, **kwargs)
        sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(_hook)

    return quiet


def operation(function: Callable) -> Callable:
    """`function`, which the user's code calls in order to compute with traced arrays, and which calls none of the user's.

    The nodes that it makes are said to come from the line that calls it, found once for all of them.
    """

    @functools.wraps(function)
    def located(*args, **kwargs):
        scope = _scope.get()
        if scope is None or scope.where is not None:  # no trace to speak of; a part of another operation
            return function(*args, **kwargs)
        scope.where = user_location(2)
        hooked = sys.gettrace() is _hook
        if hooked:
            sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            scope.where = None
            if hooked:
                sys.settrace(_hook)

    return located


def _start_tracing() -> Callable[[], None]:
    previous = sys.gettrace()
    if previous is None:
        sys.settrace(_hook)
    else:
        sys.settrace(_chained_hook(previous))
    mine = sys.gettrace()

    def stop():
        # A debugger that was started inside the function stays. Python removes a hook that raised (Ctrl-C inside it).
        if sys.gettrace() in (mine, None):
            sys.settrace(previous)

    return stop


def _hook(frame, event, argument):
    if event == "call" and not is_library(frame.f_code.co_filename):
        listener = _listener.get()
        if listener is not None:
            listener(frame.f_code, frame.f_globals)


def _chained_hook(previous: Callable) -> Callable:
    """The hook, with another's trace function behind it."""

    def hook(frame, event, argument):
        _hook(frame, event, argument)
        local = previous(frame, event, argument)
        if sys.gettrace() is not hook:  # coverage's tracer puts itself in place when called
            sys.settrace(hook)
        return local

    return hook


_monitors = 0
_tool: int | None = None
_monitoring = threading.Lock()


def _start_monitoring() -> Callable[[], None]:
    global _monitors, _tool
    with _monitoring:
        if _monitors == 0:
            _tool = _take_tool()
        _monitors += 1
        if _tool is None:
            _monitors -= 1
            return _start_tracing()
    return _stop_monitoring


def _stop_monitoring() -> None:
    global _monitors, _tool
    with _monitoring:
        _monitors -= 1
        if _monitors == 0 and _tool is not None:
            _monitoring_tools.set_events(_tool, 0)
            _monitoring_tools.register_callback(_tool, _monitoring_tools.events.PY_START, None)
            _monitoring_tools.free_tool_id(_tool)
            _tool = None


def _take_tool() -> int | None:
    """A free tool number, its events on; None when other tools have taken all."""
    monitoring = _monitoring_tools
    for number in (4, 3, 1, 2, 0):
        if monitoring.get_tool(number) is None:
            monitoring.use_tool_id(number, "jitgrad")
            monitoring.register_callback(number, monitoring.events.PY_START, _function_starts)
            monitoring.set_events(number, monitoring.events.PY_START)
            return number
    return None


def _function_starts(code: CodeType, offset: int):
    if is_library(code.co_filename):
        return _monitoring_tools.DISABLE
    listener = _listener.get()
    if listener is not None:
        frame = sys._getframe(1)
        if frame.f_code is code:
            listener(code, frame.f_globals)
    return None
