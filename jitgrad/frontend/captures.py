"""What a traced function reads from its surroundings: found while it runs, compared at later calls.

Watched: global names that the user's functions read while they are traced; closure cells and defaults of functions
that can be reached; elements of lists, dicts, deques and sets; attributes of objects, of the user's classes and of the
user's modules (those names that the traced code loads as attributes, all of them where it uses `getattr` or where a
library's methods may read them); and so on inwards; also the attributes of objects among the arguments. A changed
number, string, function or object means a new trace. An array bound anew needs none if only its elements are new: it
takes the place of the old one.

A function that changes what it reads (a counter, a list that it appends to, a random generator), and one that can
reach an iterator, computes something else at its next call: it is traced at every call.

Not watched: modules of the standard library and of installed packages, and what their code reads from elsewhere than
its arguments; what `__getattr__` or C code computes from state that is out of sight; methods of a class that are replaced
(what they close over is watched), builtins that are shadowed later; elements of a container after the first `LIMIT` (its
length is watched), attributes of objects after the first `LIMIT`; elements of arrays that Python itself uses in ways
that `reads_of` does not see (`k = sizes[0]`, then `parts[k]` or `range(k)`; see `function._exact`); files, clocks,
generators seeded by the system inside the function.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType

import numpy as np

from .calls import is_library
from .guards import ATOMS, MISSING, Place, Watch, cell_value, same_value
from .randomness import global_generators, is_random_generator, random_modules, random_state
from .reads import reads_of
from .trace import Trace

LIMIT = 1000
"""Elements of one container that are watched one by one, and objects in all whose attributes are."""


class Watcher:
    """Collects, while functions run, what they read from outside."""

    def __init__(self, trace: Trace):
        self.trace = trace
        self.watch = Watch()
        self.decides = False
        self.makers: set[str] = set()  # kinds of arrays that the functions may make from nothing
        self._codes: set[tuple[int, int]] = set()
        self._seen: dict[int, object] = {}  # everything looked into, kept alive so that ids stay its own
        self._places: set[tuple[int, object]] = set()
        self._objects: list = []
        self._names: set[str] = {"__wrapped__", "__call__"}
        self._every_attribute = False
        self._generators: list[tuple[object, object]] = []  # random generators and their states at first sight
        self._iterators = False
        self._todo: list = []
        self._looking = False
        self._random_modules = random_modules()
        for generator in global_generators():
            self._watch_generator(generator)

    def function_starts(self, code: CodeType, namespace: dict) -> None:
        """A function of the user with this code and these globals begins to run."""
        key = (id(code), id(namespace))
        if key in self._codes:
            return
        self._codes.add(key)
        self._seen[id(code)] = code
        if code.co_filename == "<string>" and _is_generated(namespace):
            return
        reads = reads_of(code)
        self.decides |= reads.decides or any(
            _takes_numbers(namespace.get(name, vars(builtins).get(name))) for name in reads.element_calls
        )
        self.makers |= reads.makers
        self._every_attribute |= reads.every_attribute
        new = reads.attributes - self._names
        if new or reads.every_attribute:
            self._names |= new
            for found in list(self._objects):
                self._look_at_attributes(found, self._wanted_names(found) if self._every_attribute else new)
        for name in reads.globals:
            if name in namespace or not hasattr(builtins, name):
                self._add(self.watch.mappings, namespace, name, namespace.get(name, MISSING))

    def is_repeatable(self) -> bool:
        """Whether the next call finds what this one found: the function has changed nothing of what it reads.

        An iterator cannot be asked whether it was advanced: a function that can reach one is taken not to be repeatable.
        """
        changes = self.watch.changes()
        if self._iterators or changes is None or self._random_modules != random_modules():
            return False  # NumPy imports its random module when it is first used
        return all(same_value(place.value, now) for place, now in changes) and all(
            random_state(generator) == state for generator, state in self._generators
        )

    def look_into(self, *roots) -> None:
        """Watches what can be reached from `roots`."""
        self._todo.extend(roots)
        if self._looking:
            return  # called from the loop below: chains of objects may be longer than the stack is deep
        self._looking = True
        try:
            while self._todo:
                value = self._todo.pop()
                if isinstance(value, ATOMS) or value is MISSING or id(value) in self._seen:
                    continue
                self._seen[id(value)] = value
                self._todo.extend(self._inside(value))
        finally:
            self._looking = False

    def _add(self, places: list, holder, key, value) -> None:
        place = (id(holder), key)
        if place in self._places or (isinstance(value, ModuleType) and _of_library(value)):
            return
        self._places.add(place)
        places.append(Place(holder, key, value))
        self.look_into(value)

    def _inside(self, value) -> Iterable:
        """Watches the places inside one value; returns what is to be looked into next."""
        match value:
            case np.ndarray():
                self.trace.watch(value)
                return ()
            case FunctionType():
                return self._function(value)
            case MethodType():
                return value.__self__, value.__func__
            case functools.partial():
                return value.func, *value.args, *value.keywords.values()
            case staticmethod() | classmethod():
                return (value.__func__,)
            case property():
                return value.fget, value.fset
            case dict():
                self._length(value)
                for key in list(value)[:LIMIT]:
                    self._add(self.watch.mappings, value, key, value.get(key, MISSING))
                return ()
            case list() | deque():
                self._length(value)
                for index, element in enumerate(itertools.islice(value, LIMIT)):
                    self._add(self.watch.items, value, index, element)
                return ()
            case tuple():
                return value[:LIMIT]
            case set():
                self.watch.sets.append(Place(value, None, frozenset(value)))
                return ()
            case Iterator():
                self._iterators = True
        if is_random_generator(value):
            self._watch_generator(value)
            return ()
        if self._has_own_attributes(value) and len(self._objects) < LIMIT:
            self._objects.append(value)
            self._look_at_attributes(value, self._wanted_names(value))
        return ()

    def _watch_generator(self, generator) -> None:
        self._seen[id(generator)] = generator
        self._generators.append((generator, random_state(generator)))

    def _length(self, container) -> None:
        if (id(container), len) not in self._places:
            self._places.add((id(container), len))
            self.watch.lengths.append(Place(container, None, len(container)))

    def _function(self, function: FunctionType) -> Iterable:
        if is_library(function.__code__.co_filename) and not hasattr(function, "__wrapped__"):
            return ()
        for cell in function.__closure__ or ():
            self._add(self.watch.cells, cell, None, cell_value(cell))
        if function.__defaults__:
            self._add(self.watch.attributes, function, "__defaults__", function.__defaults__)
        return (function.__kwdefaults__,) if function.__kwdefaults__ else ()

    def _has_own_attributes(self, value) -> bool:
        if isinstance(value, (type, ModuleType)):
            return not _of_library(value if isinstance(value, ModuleType) else module_of(value))
        own = own_attributes(value)
        if _is_ours(type(value)):
            return "__wrapped__" in own  # else a traced value, or machinery of ours
        return bool(own) or any("__slots__" in vars(base) for base in type(value).__mro__)

    def _wanted_names(self, value) -> Iterable[str]:
        if self._every_attribute or (_has_library_methods(value) and not _is_ours(type(value))):
            return self._names.union(own_attributes(value))
        return self._names

    def _look_at_attributes(self, value, names: Iterable[str]) -> None:
        """Watches those attributes that lie in a dict or a slot: no code of the user's runs."""
        own = own_attributes(value)
        classes = value.__mro__ if isinstance(value, type) else type(value).__mro__
        for name in names:
            if name in own and not isinstance(value, type):
                self._add(self.watch.mappings, own, name, own[name])
                continue
            for kind in classes:
                if name in vars(kind):
                    self._class_attribute(value, own, kind, name)
                    break

    def _class_attribute(self, value, own: Mapping, kind: type, name: str) -> None:
        found = vars(kind)[name]
        if isinstance(found, MemberDescriptorType):
            if not isinstance(value, type):
                self._add(self.watch.attributes, value, name, getattr(value, name, MISSING))
        elif is_library_class(kind):
            return
        elif isinstance(found, (FunctionType, staticmethod, classmethod, property)):
            self.look_into(found)  # methods: what they close over, not whether they are replaced
        else:
            if isinstance(own, dict):  # an instance's: it may come to have the name itself
                self._add(self.watch.mappings, own, name, MISSING)
            self._add(self.watch.mappings, vars(kind), name, found)


def own_attributes(value) -> Mapping:
    """The `__dict__` of an object, class or module, without running code of its class."""
    if isinstance(value, type):
        return vars(value)
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return own if isinstance(own, dict) else {}


_MACHINERY = tuple(f"jitgrad.{part}." for part in ("api", "config", "frontend", "ir", "runtime", "transforms"))


def _is_ours(kind: type) -> bool:
    """Whether it is a traced value's class, or another that only this library uses."""
    return f"{kind.__module__}.".startswith(_MACHINERY)


def _has_library_methods(value) -> bool:
    """Whether Python code that is not looked at may read attributes of `value`: methods of a library's class."""
    if isinstance(value, (type, ModuleType)):
        return False
    return any(
        kind is not object and is_library_class(kind) and any(isinstance(v, FunctionType) for v in vars(kind).values())
        for kind in type(value).__mro__
    )


_OF_NUMBERS = {"math", "cmath", "operator", "_operator"}


def _takes_numbers(value) -> bool:
    """Whether it is `range`, a module of functions of Python numbers, or one of these functions."""
    if isinstance(value, ModuleType):
        return value.__name__ in _OF_NUMBERS
    return value is range or (isinstance(value, BuiltinFunctionType) and value.__module__ in _OF_NUMBERS)


def is_library_class(kind: type) -> bool:
    """Whether the class is built in, of the standard library or of an installed package."""
    return _of_library(module_of(kind))


def module_of(kind: type) -> ModuleType | None:
    return sys.modules.get(kind.__module__)


def _of_library(module: ModuleType | None) -> bool:
    """Whether the module is built in, of the standard library or of an installed package; a script is not."""
    if module is None or module.__name__ == "__main__":
        return module is None
    return is_library(getattr(module, "__file__", None) or "<frozen ")


def _is_generated(namespace: dict) -> bool:
    """Whether code with these globals is of a library's namedtuple or dataclass, which the file name does not tell."""
    name = str(namespace.get("__name__", ""))
    return name.startswith("namedtuple_") or (name in sys.modules and _of_library(sys.modules[name]))
