"""Which functions are rewritten, and what a call in rewritten code calls."""

from __future__ import annotations

import ast
import dis
import functools
import math
import sys
import types
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType

import numpy as np

from ... import tree
from ...config import config
from ...ir.node import is_present, scope
from ..aliasing import rebind
from ..array import Array
from ..calls import is_library
from ..convert import contains_traced
from ..reads import all_reads_of, instructions_of, note_original
from ..registry import creation_of
from .context import is_pure, side_effect
from .names import defined
from .numbers import BUILTINS, math_function
from .rewrite import HELPER, PREFIX, rewritten
from .source import definition_of, is_plain

# --- functions of the user


def lifted(function: Callable) -> Callable:
    """`function` with its control flow as nodes when it is traced; itself where it has none or no source."""
    if not config.lift:
        return function
    if type(function) is FunctionType:
        return _lifted_function(function) if _is_users(function) else function
    if isinstance(function, MethodType) and type(function.__func__) is FunctionType and _is_users(function.__func__):
        inner = _lifted_function(function.__func__)
        return function if inner is function.__func__ else MethodType(inner, function.__self__)
    if isinstance(function, functools.partial):
        target = lifted(function.func)
        return function if target is function.func else functools.partial(target, *function.args, **function.keywords)
    called = None if isinstance(function, type) else _own_call(function)
    return function if called is None else lifted(MethodType(called, function))


def _own_call(value) -> FunctionType | None:
    """The `__call__` of an object of a class of the user."""
    called = next((vars(kind)["__call__"] for kind in type(value).__mro__ if "__call__" in vars(kind)), None)
    return called if type(called) is FunctionType and _is_users(called) else None


def _is_users(function: FunctionType) -> bool:
    return not is_library(function.__code__.co_filename)


def _lifted_function(function: FunctionType, always: bool = False) -> FunctionType:
    """The function rewritten, if it needs to be, or `always`."""
    code = function.__code__
    if HELPER in code.co_freevars or not (always or _needs_it(function, set())):
        return function
    made = _lifted_code(code)
    if made is None:
        return function
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    cells[HELPER] = _helper[0]
    closure = tuple(cells[name] for name in made.co_freevars)
    new = FunctionType(made, function.__globals__, function.__name__, function.__defaults__, closure)
    new.__kwdefaults__ = function.__kwdefaults__
    new.__qualname__, new.__dict__ = function.__qualname__, dict(function.__dict__)
    return new


_helper: list = []  # the module `stage`, which stands above this one


def provide(helper: object) -> None:
    """Gives the helper that rewritten code calls."""
    _helper[:] = [types.CellType(helper)]


@functools.lru_cache(maxsize=4096)
def _lifted_code(code: CodeType) -> CodeType | None:
    """The code of the rewritten function; None where it cannot be had."""
    if not is_plain(code):
        return None
    definition = definition_of(code)
    if definition is None:
        return None
    new = rewritten(_copied(definition))  # type: ignore[arg-type]
    free = sorted({*code.co_freevars, HELPER})
    made = _compiled(new, free, code)
    if made is None or not set(made.co_freevars) <= set(free):
        return None
    made = _renamed(made, code)
    note_original(made, code)
    return made


def _copied(node):
    """A syntax tree of its own: the file's is kept."""
    if isinstance(node, ast.AST):
        new = type(node)(**{name: _copied(value) for name, value in ast.iter_fields(node)})
        return ast.copy_location(new, node)
    return [_copied(one) for one in node] if isinstance(node, list) else node


def _compiled(definition, free: list[str], code: CodeType) -> CodeType | None:
    """The code object, compiled inside of a function that has the free names as its own."""
    name = definition.name if isinstance(definition, ast.FunctionDef) else "<lambda>"
    inner = definition if isinstance(definition, ast.FunctionDef) else ast.Expr(definition)
    arguments = ast.arguments([], [ast.arg(one) for one in free], None, [], [], None, [])
    outer = defined(PREFIX + "factory", arguments, [inner])
    ast.copy_location(outer, definition)
    module = ast.fix_missing_locations(ast.Module([outer], []))
    flags = code.co_flags & _FUTURE
    compiled = compile(module, code.co_filename, "exec", flags=flags, dont_inherit=True)
    factory = next(c for c in compiled.co_consts if isinstance(c, CodeType))
    return next((c for c in factory.co_consts if isinstance(c, CodeType) and c.co_name == name), None)


_FUTURE = 0x1FF0000  # the bits of `from __future__ import ...`


def _renamed(made: CodeType, original: CodeType) -> CodeType:
    """The code under the user's name, blocks too: tracebacks show it."""
    inner = tuple(
        _renamed(c, original if c.co_name.startswith(PREFIX) else c) if isinstance(c, CodeType) else c for c in made.co_consts
    )
    return made.replace(co_consts=inner, co_name=original.co_name, co_qualname=original.co_qualname)


def _needs_it(function: FunctionType, seen: set[CodeType]) -> bool:
    """Whether the function, or one that it seems to call, has control flow, stores, or numbers made of traced values."""
    code = function.__code__
    if code in seen:
        return False
    seen.add(code)
    if _has_control(code):
        return True
    own = {*code.co_names, *code.co_freevars}
    held = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    for name in own:
        value = _content(held[name]) if name in held else function.__globals__.get(name)
        if isinstance(value, types.ModuleType):
            if value is math or not is_library(getattr(value, "__file__", None) or "<frozen "):
                return True
        elif isinstance(value, FunctionType):
            if _is_users(value) and _needs_it(value, seen):
                return True
        elif isinstance(value, type):
            if not is_library(getattr(sys.modules.get(value.__module__), "__file__", None) or "<frozen "):
                return True
        elif value is not None and callable(value) and _is_callable_of_user(value):
            return True
    return _calls_methods(code)


def _content(cell: types.CellType):
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _is_callable_of_user(value) -> bool:
    if getattr(value, "__module__", None) == "math" or isinstance(value, functools.partial):
        return True
    return _own_call(value) is not None


_ARRAY_NAMES = {*dir(np), *dir(np.ndarray), *dir(np.linalg), *dir(math)}
_NUMBER_MAKERS = {
    "float", "int", "bool", "round", "min", "max", "sum", "any", "all", "range", "enumerate", "zip", "reversed", "map",
}  # fmt: skip
_CREATION = {
    "zeros", "ones", "empty", "full", "zeros_like", "ones_like", "empty_like", "full_like", "array", "asarray", "arange", "eye",
    "identity", "linspace", "copy",
}  # fmt: skip


@functools.lru_cache(maxsize=4096)
def _has_control(code: CodeType) -> bool:
    names = {name for _, name in instructions_of(code) if name is not None}
    return _jumps(code) or bool(names & _NUMBER_MAKERS) or (_stores(code) and bool(names & _CREATION))


def _jumps(code: CodeType) -> bool:
    return not _JUMPS.isdisjoint(code.co_code[::2]) or any(_has_control(c) for c in code.co_consts if isinstance(c, CodeType))


def _stores(code: CodeType) -> bool:
    return _STORE in code.co_code[::2]


def _calls_methods(code: CodeType) -> bool:
    """Whether it may call methods of the user's classes."""
    return any(name not in _ARRAY_NAMES for operation, name in instructions_of(code) if operation in _ATTRIBUTES and name)


def _opcodes(*words: str) -> frozenset[int]:
    return frozenset(number for name, number in dis.opmap.items() if any(word in name for word in words))


_JUMPS = _opcodes("JUMP_IF", "_IF_", "FOR_ITER", "UNARY_NOT", "ASSERT", "RAISE_VARARGS")
_ATTRIBUTES = _opcodes("LOAD_METHOD", "LOAD_ATTR")
_STORE = next(iter(_opcodes("STORE_SUBSCR")))

# --- calls in rewritten code


def call(function):
    """What is called where the user's code calls `function`."""
    kind = type(function)
    if kind is FunctionType:
        return _user_call(function) if _is_users(function) else _library_call(function)
    if kind is np.ufunc:
        return function
    found = BUILTINS.get(function) if _is_hashable(function) else None
    if found is not None:
        return found
    if kind is BuiltinFunctionType:
        return _builtin_call(function)
    if kind is MethodType:
        owner = function.__func__
        if type(owner) is FunctionType and _is_users(owner):
            return MethodType(_user_call(owner), function.__self__)
        return function
    if isinstance(function, type):
        return _class_call(function)
    new = lifted(function)
    if new is function and not _is_known(function):
        side_effect(f"{_name(function)} is called")
    return new


def _is_hashable(value) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _name(function) -> str:
    return f"{getattr(function, '__name__', None) or type(function).__name__}()"


def _is_known(function) -> bool:
    """Whether it is a callable that only computes: jitgrad's own, or of NumPy."""
    module = type(function).__module__ or ""
    own = getattr(function, "__module__", None) or ""
    return any(name.split(".")[0] in ("jitgrad", "numpy", "functools", "operator") for name in (module, own))


_IMPURE_MODULES = ("numpy.random", "random", "time", "os", "io")


def maker(function):
    """What makes an array that is stored into: a traced one where NumPy would make a plain one."""
    made = creation_of(function) if _is_hashable(function) else None
    return call(function) if made is None else made


def _of_values(function, made):
    """`np.array` and its like, of values of which some may be traced."""

    @functools.wraps(function)
    def make(value, *args, **kwargs):
        return (made if contains_traced(value) else function)(value, *args, **kwargs)

    return make


_COMPUTING = ("numpy", "jitgrad", "functools", "operator", "itertools", "typing", "dataclasses", "collections")


def _library_call(function: FunctionType):
    module = function.__module__ or ""
    if not module.startswith(_COMPUTING):
        side_effect(f"{_name(function)} of {module} is called")
    return function


def _builtin_call(function: BuiltinFunctionType):
    if function in (np.array, np.asarray):
        return _of_values(function, creation_of(function))
    module = function.__module__ or ""
    if module == "math":
        return functools.partial(_math_call, function)
    holder = function.__self__
    if isinstance(holder, types.ModuleType) or holder is None:
        if module not in ("builtins", "numpy", "_operator", "operator", "itertools", "numpy._core._multiarray_umath"):
            if not module.startswith("numpy._core"):
                side_effect(f"{_name(function)} of {module} is called")
        elif module == "builtins" and function.__name__ in _EFFECTS:
            side_effect(f"{_name(function)} is called")
        return function
    if function.__name__ in _CHANGING.get(type(holder), ()) or type(holder) not in _CHANGING:
        side_effect(f"the {function.__name__} of a {type(holder).__name__} is called")
    return function


_EFFECTS = {"print", "input", "open", "next", "exec", "eval", "setattr", "delattr", "__import__", "breakpoint"}
_CHANGING: dict[type, tuple[str, ...]] = {
    list: ("append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse"),
    dict: ("pop", "popitem", "clear", "update", "setdefault"),
    set: ("add", "discard", "remove", "pop", "clear", "update", "difference_update", "intersection_update"),
    np.ndarray: ("sort", "fill", "put", "resize", "setfield", "partition", "itemset", "byteswap", "setflags", "tofile", "dump"),
    str: (), bytes: (), tuple: (), int: (), float: (), bool: (), complex: (), frozenset: (), range: (), type: (),
    np.float64: (), np.float32: (), np.int64: (), np.bool_: (),
}  # fmt: skip


def _math_call(function: BuiltinFunctionType, *args, **kwargs):
    """A function of the math module: NumPy's where an argument is traced."""
    if not any(isinstance(argument, Array) for argument in (*args, *kwargs.values())):
        return function(*args, **kwargs)
    return math_function(function.__name__)(*args, **kwargs)


def _class_call(kind: type):
    module = getattr(sys.modules.get(kind.__module__), "__file__", None)
    made = hasattr(kind, "_fields") or hasattr(kind, "__dataclass_fields__") or issubclass(kind, BaseException)
    if kind.__module__ in ("builtins", "numpy") or made or is_library(module or "<frozen "):
        return kind
    side_effect(f"a {kind.__name__} is made")
    return kind


def _user_call(function: FunctionType):
    new = _lifted_function(function)
    if new is function and is_pure() and not _is_harmless(function.__code__):
        new = _lifted_function(function, always=True)  # so that its stores are looked at when they are made
    if new is function and not _is_lifted(function):
        if is_pure() and not _is_harmless(function.__code__):
            side_effect(f"{_name(function)}, whose source cannot be read, is called")
        return function
    return _Memo(new, function)


def _is_lifted(function: FunctionType) -> bool:
    return HELPER in function.__code__.co_freevars


@functools.lru_cache(maxsize=4096)
def _is_harmless(code: CodeType) -> bool:
    """Whether a function that was not rewritten has no side effects of its own; what it calls is looked at by name only."""
    names = {name for _, name in instructions_of(code) if name is not None}
    risky = {*_EFFECTS, "append", "extend", "update", "write", "add", "pop", "random"}
    return not _stores(code) and names.isdisjoint(risky) and not _WRITES.intersection(code.co_code[::2])


_WRITES = _opcodes("STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR", "DELETE_", "IMPORT_NAME")


class _Memo:
    """A rewritten function of the user; a call with values that a call in this trace had before is answered from memory, if
    the function only computes."""

    __slots__ = ("function", "original")

    def __init__(self, function: FunctionType, original: FunctionType):
        self.function, self.original = function, original

    def __get__(self, instance, owner=None):
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args, **kwargs):
        if is_pure() and not _computes_only(self.function.__code__):
            side_effect(f"{_name(self.original)} does more than compute and is called")
        key = _key(self.original, args, kwargs)
        if key is None or not _computes_only(self.function.__code__):
            return self._run(args, kwargs)
        memo = scope().facts.setdefault("calls", {})
        found = memo.get(key)
        if found is not None and is_present(found[0]):  # not made on another side of a branch
            return Array(*found)
        result = self._run(args, kwargs)
        if type(result) is Array and _key(self.original, args, kwargs) == key:
            memo[key] = result.node, result.weak
        return result


    def _run(self, args: tuple, kwargs: dict):
        """The call. A store into an array that the function closes over is taken back where there must be none: the loop or
        branch around knows nothing of it."""
        if not is_pure():
            return self.function(*args, **kwargs)
        held = [_content(cell) for cell in self.original.__closure__ or () if cell is not _helper[0]]
        arrays = [leaf for leaf in tree.flatten([h for h in held if h is not None])[0] if type(leaf) is Array]
        before = [(array, array.node) for array in arrays]
        result = self.function(*args, **kwargs)
        if any(array.node is not node for array, node in before):
            for array, node in before:
                rebind(array, node)
            side_effect(f"{_name(self.original)} stores into an array that it closes over")
        return result


def _key(function: FunctionType, args: tuple, kwargs: dict):
    """What a call is told from others by: its arguments, and what the function closes over; None where it cannot be."""
    seen: set[int] = set()
    parts = [_part(value, seen) for value in (function, *args, *sorted(kwargs.items()))]
    return None if None in parts else tuple(parts)


_MOST_LEAVES = 1000


def _part(value, seen: set[int]):
    """A hashable sign for a value as it is now; None where there is none."""
    kind = type(value)
    if kind is Array:
        return Array, value.node, value.weak
    if kind in (int, bool, str, type(None)):
        return kind, value
    if kind is float:
        return float, repr(value)
    if kind is FunctionType:
        return _function_part(value, seen)
    if isinstance(value, (np.ufunc, BuiltinFunctionType, types.ModuleType, np.dtype, type, np.ndarray)):
        return kind, id(value)  # an array that is written to while it is traced is refused
    if isinstance(value, np.generic):
        return value.dtype, value.tobytes()
    if kind in (tuple, list, dict):
        leaves, structure = tree.flatten(value)
        if len(leaves) > _MOST_LEAVES:
            return None
        parts = tuple(None if isinstance(leaf, (tuple, list, dict)) else _part(leaf, seen) for leaf in leaves)
        return None if None in parts else (structure, parts)
    return None


def _function_part(function: FunctionType, seen: set[int]):
    """A function is another one when what it closes over, or reads from its module, is bound anew or has changed."""
    if id(function) in seen or not _is_users(function):
        return FunctionType, id(function)
    seen.add(id(function))
    held = [_content(cell) for cell in function.__closure__ or () if cell is not _helper[0]]
    space = function.__globals__
    held += [space[name] for name in all_reads_of(function.__code__).globals if name in space]
    parts = tuple(_part(value, seen) for value in held)
    return None if None in parts else (id(function), parts)


@functools.lru_cache(maxsize=4096)
def _computes_only(code: CodeType) -> bool:
    """Whether a rewritten function has no side effects by statements of its own: calls are looked at when they are made."""
    if not _STRICT_WRITES.isdisjoint(code.co_code[::2]):
        return False
    if any(one.opname == "STORE_DEREF" and one.argval in code.co_freevars for one in dis.get_instructions(code)):
        return False  # nonlocal
    return all(_computes_only(c) for c in code.co_consts if isinstance(c, CodeType))


_STRICT_WRITES = _opcodes("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR", "IMPORT_NAME", "YIELD")
