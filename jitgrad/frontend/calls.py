"""Which of the user's functions run during a trace, and which names their code reads.

Python 3.12 and later tell of function starts through `sys.monitoring`, earlier ones through the trace function, where
a debugger's or coverage tool's own is called as well and put back at the end.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import CodeType
from typing import Any

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = tuple(
    {_PACKAGE} | {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_PACKAGE_FOLDERS = (os.sep + "site-packages" + os.sep, os.sep + "dist-packages" + os.sep)


@functools.lru_cache(maxsize=4096)
def is_library(file: str) -> bool:
    """Whether code in `file` belongs to jitgrad, the standard library or an installed package."""
    return file.startswith((*_LIBRARIES, "<frozen ", "<__array_function__")) or any(f in file for f in _PACKAGE_FOLDERS)


@dataclass(frozen=True)
class Reads:
    """The names that one code object reads."""

    globals: tuple[str, ...]
    attributes: frozenset[str]
    every_attribute: bool  # attributes are read by computed names too
    decides: bool  # takes branches, or turns values into Python numbers
    element_calls: frozenset[str]  # global names, and makers of arrays, in calls with an element of something as argument
    makers: frozenset[str]  # what kinds of arrays the code may make from nothing, see `MAKERS`


_CONVERSIONS = {"float", "int", "bool", "round", "any", "all"}  # builtins
_CONVERTING_METHODS = {"item", "tolist", "allclose", "array_equal", "array_equiv"}
MAKERS = {
    "zeros": "zeros", "zeros_like": "zeros", "empty": "zeros", "empty_like": "zeros", "ones": "ones", "ones_like": "ones",
    "full": "other", "full_like": "other", "arange": "counting", "indices": "counting", "eye": "other", "identity": "other",
    "tri": "other", "linspace": "other",
}  # fmt: skip
"""Functions that make arrays from nothing, and of what elements."""
_COMPUTED = {"getattr", "vars", "__dict__", "attrgetter"}
_GLOBAL_OPS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTE_OPS = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "LOAD_SUPER_METHOD")


@functools.lru_cache(maxsize=4096)
def reads_of(code: CodeType) -> Reads:
    """What `code` reads, from its instructions."""
    instructions = list(dis.get_instructions(code))
    names = dict.fromkeys(one.argval for one in instructions if one.opname in _GLOBAL_OPS)
    attributes = {one.argval for one in instructions if one.opname in _ATTRIBUTE_OPS}
    used = attributes.union(names)
    element_calls, nested = _uses_of_elements(instructions)
    decides = (
        any("JUMP" in one.opname and "_IF_" in one.opname for one in instructions)
        or not (_CONVERSIONS.isdisjoint(names) and _CONVERTING_METHODS.isdisjoint(used))
        or nested
        or not element_calls.isdisjoint(MAKERS)  # np.zeros(sizes[0])
    )
    return Reads(
        tuple(names),
        frozenset(attributes),
        not _COMPUTED.isdisjoint(used),
        decides,
        frozenset(element_calls),
        frozenset(MAKERS[name] for name in used.intersection(MAKERS)),
    )


def _uses_of_elements(instructions: list[dis.Instruction]) -> tuple[set[str], bool]:
    """The names (global ones, and makers of arrays) in calls that have an element of something as argument, and whether
    an element picks from something, as in `a[b[i]]`."""
    found: set[str] = set()
    since_call: set[str] = set()
    nested = took_element = False
    for k, instruction in enumerate(instructions):
        takes_element = _takes_element(instructions, k)
        if takes_element:
            nested |= took_element
            found |= since_call
        elif instruction.opname.startswith("CALL"):
            since_call.clear()
        elif instruction.opname in _GLOBAL_OPS or _names_maker(instruction):
            since_call.add(instruction.argval)
        took_element = takes_element
    return found, nested


def _names_maker(instruction: dis.Instruction) -> bool:
    return instruction.opname in _ATTRIBUTE_OPS and instruction.argval in MAKERS


def _takes_element(instructions: list[dis.Instruction], k: int) -> bool:
    """Whether instruction k is a subscription, of something else than `.shape`, with something else than a slice."""
    one = instructions[k]
    # Python 3.14 has made the subscription a binary operator.
    if one.opname != "BINARY_SUBSCR" and (one.opname != "BINARY_OP" or one.argrepr != "[]"):
        return False
    of_shape = k > 1 and instructions[k - 2].argval == "shape"
    return not of_shape and instructions[k - 1].opname != "BUILD_SLICE"


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
        hook = sys.gettrace()
        if hook is None or getattr(hook, "__code__", None) is not _hook_code:
            return function(*args, **kwargs)
        sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(hook)

    return quiet


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


_hook_code = _hook.__code__


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
