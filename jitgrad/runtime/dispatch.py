"""From a call to the program that answers it: the program caches."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FunctionType
from typing import Any, Protocol

from ..config import config, read_threads
from ..errors import UsageTypeError, UsageValueError
from ..frontend.function import Argument, trace_function
from .program import MISMATCH, TIERS, Program, plain_arguments
from .signature import Signature, Static, name_leaves, signature

SIGNATURES = 128
"""Signatures whose programs one function keeps; the least recently made goes first."""

VARIANTS = 4
"""Programs of one signature that differ in what was captured."""

PATHS = 8
"""Programs of one signature that differ in what the arguments decided (see `frontend.decisions`)."""


class Source(Protocol):
    """What is traced: `body` runs on traced arrays, `roots` are looked into for captures, `name` is the user's."""

    name: str

    @property
    def parameters(self) -> Sequence[str]: ...
    def body(self, *args, **kwargs) -> Any: ...
    def roots(self) -> Iterable: ...
    def takes(self, count: int) -> bool: ...
    def python_signature(self) -> inspect.Signature | None: ...


class Dispatcher:
    """The programs of one function under one transformation.

    It does not hold the function (`source` comes with each call), so that a function and its programs are no cycle and
    go at once when the last user of the function lets go of it.
    """

    __slots__ = ("tier", "threads", "static_argnums", "static_argnames", "last", "programs", "traces", "warned", "_lock")

    def __init__(
        self,
        tier: str,
        threads: int | None,
        static_argnums: tuple[int, ...] = (),
        static_argnames: tuple[str, ...] = (),
    ):
        self.tier, self.threads = tier, threads
        self.static_argnums, self.static_argnames = static_argnums, static_argnames
        self.last: Program | None = None
        self.programs: dict[tuple, list[Program]] = {}
        self.traces = 0
        self.warned = False
        self._lock = threading.Lock()

    def __call__(self, source: Source, args: tuple, kwargs: dict) -> Any:
        """The result of the call."""
        program = self.last
        if program is not None and program.options is config.options():
            result = program.fast(args, kwargs)
            if result is not NotImplemented:
                return result
            arrays = None if kwargs else program.match(args)
            if arrays is not None:
                captured = program.guards.current()
                if captured is not None and program.guards.shapes_hold():
                    result = program.run([*arrays, *captured] if captured else arrays)
                    if result is not MISMATCH:
                        return result
        key, call = self._signature(source, args, kwargs)
        for program, arrays in self._candidates(key, call):
            result = program.run(arrays)
            if result is not MISMATCH:
                self.last = program
                return result
        program, arrays = self._new(source, key, call, args, kwargs)
        return program.run(arrays)

    def find(self, source: Source, args: tuple, kwargs: dict) -> tuple[Program, list]:
        """The program for the call, traced if there is none yet, and the arrays to run it on."""
        key, call = self._signature(source, args, kwargs)
        for program, arrays in self._candidates(key, call):
            if not program.decisions or program.run(arrays) is not MISMATCH:
                self.last = program
                return program, arrays
        return self._new(source, key, call, args, kwargs)

    def _signature(self, source: Source, args: tuple, kwargs: dict) -> tuple[tuple, Signature]:
        marked_args, marked_kwargs = self._mark_static(source, args, kwargs)
        call = signature(marked_args, marked_kwargs, name_leaves(marked_args, marked_kwargs, source.parameters))
        return (config.options(), *call.key), call

    def _candidates(self, key: tuple, call: Signature) -> Iterator[tuple[Program, list]]:
        """The programs that the call's surroundings allow, with the arrays to run them on."""
        for program in list(self.programs.get(key, ())):
            captured = program.guards.current()
            if captured is not None and program.guards.shapes_hold():
                yield program, [*call.arrays, *captured]

    def _new(self, source: Source, key: tuple, call: Signature, args: tuple, kwargs: dict) -> tuple[Program, list]:
        """A program for the call, traced now, and the arrays to run it on."""
        check_arguments(source, args, kwargs)
        program = self._trace(source, call, plain_arguments(args, kwargs) if self._all_dynamic() else None)
        if program.repeatable and not self._has_all_paths(key, program, source):
            self._keep(key, program)
        return program, [*call.arrays, *program.guards.ready_arrays()]

    def _has_all_paths(self, key: tuple, program: Program, source: Source) -> bool:
        """Whether so many ways through the function are kept that another one is not: then it is traced at each such call."""
        if not program.decisions or len(self.programs.get(key, ())) < PATHS:
            return False
        program.runner.tier = "interpret"
        if not self.warned:
            self.warned = True
            first = program.decisions[0]
            warnings.warn(
                f"{source.name} takes another way for every new value (decided at {first.where}): from now on it is traced at "
                "each call that none of the kept ways fits. Write the decision as np.where, or as an if or while statement.",
                stacklevel=5,
            )
        return True

    def _trace(self, source: Source, call: Signature, plain: tuple | None) -> Program:
        options = config.options()
        objects = [leaf for leaf in call.leaves if not isinstance(leaf, Argument)]
        traced = trace_function(source.body, [*source.roots(), *objects], call.leaves, call.structure, call.arrays)
        self.traces += 1
        tier = "interpret" if options.target == "numpy" else self.tier
        if not traced.repeatable and tier == "auto":
            tier = "interpret"
        return Program(traced, call, plain, options, tier, self.threads or options.threads)

    def _keep(self, key: tuple, program: Program) -> None:
        with self._lock:
            most = PATHS if program.decisions else VARIANTS
            self.programs[key] = [program, *self.programs.pop(key, ())[: most - 1]]
            while len(self.programs) > SIGNATURES:
                del self.programs[next(iter(self.programs))]
            self.last = program

    def _all_dynamic(self) -> bool:
        return not (self.static_argnums or self.static_argnames)

    def _mark_static(self, source: Source, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """The arguments, those declared static wrapped so that they are not looked into."""
        if self._all_dynamic():
            return args, kwargs
        names = set(self.static_argnames)
        numbers = set()
        for number in self.static_argnums:
            if number < -len(source.parameters) or number >= max(len(args), len(source.parameters)):
                raise UsageValueError(
                    f"static_argnums has {number}, but {source.name} takes {len(source.parameters)} arguments"
                )
            position = number % len(source.parameters) if number < 0 else number
            numbers.add(position)
            if position < len(source.parameters):
                names.add(source.parameters[position])
        numbers |= {k for k, name in enumerate(source.parameters) if name in names}
        marked = tuple(Static(a) if k in numbers else a for k, a in enumerate(args))
        return marked, {key: Static(value) if key in names else value for key, value in kwargs.items()}


def check_arguments(source: Source, args: tuple, kwargs: dict) -> None:
    """Refuses a call that the function could not be called with."""
    if not kwargs and source.takes(len(args)):
        return
    expected = source.python_signature()
    if expected is None:
        return
    try:
        expected.bind(*args, **kwargs)
    except TypeError as error:
        raise UsageTypeError(f"{source.name}() cannot be called like this: {error}") from None


def check_tier(tier: str) -> str:
    if tier not in TIERS:
        raise UsageValueError(f"there is no tier {tier!r}", "Tiers are: " + ", ".join(TIERS))
    return tier


def check_threads(threads: int | None) -> int | None:
    try:
        return read_threads(threads)
    except (ValueError, TypeError):
        raise UsageValueError(f"threads must be None or a number from 1 on, not {threads!r}") from None


class Store:
    """The dispatchers of one function, kept on the function itself, so that `grad(f)` twice traces once."""

    __slots__ = ("owner", "dispatchers", "__weakref__")
    LIMIT = 64

    def __init__(self, owner: int):
        self.owner = owner
        self.dispatchers: dict[tuple, Dispatcher] = {}

    def __reduce__(self):
        return Store, (0,)


def shared_dispatcher(function: Callable, key: tuple, make: Callable[[], Dispatcher]) -> Dispatcher:
    """The dispatcher under `key` of `function`: the one there is, or a new one."""
    if not isinstance(function, FunctionType):
        return make()
    store = function.__dict__.get("__jitgrad__")
    if not isinstance(store, Store) or store.owner != id(function):  # functools.wraps copies the attribute
        store = function.__dict__["__jitgrad__"] = Store(id(function))
    dispatcher = store.dispatchers.get(key)
    if dispatcher is None:
        dispatcher = store.dispatchers.setdefault(key, make())
        if len(store.dispatchers) > Store.LIMIT:
            store.dispatchers.pop(next(iter(store.dispatchers)), None)
    return dispatcher
