"""A transformed Python function: called like the original, traced and run by its dispatcher."""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType, MethodType
from typing import Any

from ..errors import UsageTypeError, UsageValueError
from ..frontend.lift import lifted
from ..frontend.trace import current
from ..runtime.dispatch import Dispatcher, check_threads, check_tier, shared_dispatcher
from ..runtime.signature import Identity
from .inline import called, gradient, untied

_BOUND_LIMIT = 64


class Function:
    """A function with a transformation applied to it.

    Inside a trace it is part of that trace; outside, a call is answered by a program that was traced once for the
    call's signature. Subclasses say what the transformation is (`transformed`).
    """

    def __init__(self, function: Callable, tier: str, threads: int | None):
        if isinstance(function, (staticmethod, classmethod)):
            inner = function.__func__
        else:
            inner = function
        if not callable(inner):
            raise UsageTypeError(
                f"{type(self).__name__.lower()} needs a function, not {function!r:.60}",
                "Write grad(f)(x), or @grad above a def.",
            )
        self.function = function
        self.tier, self.threads = check_tier(tier), check_threads(threads)
        functools.update_wrapper(self, inner, updated=())
        self.__wrapped__ = inner
        self.name = called(inner)
        self._bound: OrderedDict[Identity, Function] = OrderedDict()
        self._dispatcher = shared_dispatcher(inner, (type(self), *self.options()), self.make_dispatcher)

    # --- what subclasses say

    def options(self) -> tuple:
        """The arguments after the function with which the class makes the same transformation: hashable."""
        return self.tier, self.threads

    def transformed(self, own: bool, args: tuple, kwargs: dict) -> Any:
        """The transformation's result on traced arrays; `own`: they are fresh inputs that nobody else holds."""
        raise NotImplementedError

    def make_dispatcher(self) -> Dispatcher:
        return Dispatcher(self.tier, self.threads)

    # --- calls

    def __call__(self, *args, **kwargs):
        if current() is not None:
            return self.transformed(False, args, kwargs)
        return self._dispatcher(self, args, kwargs)

    def body(self, *args, **kwargs) -> Any:
        """What is traced."""
        return self.transformed(True, args, kwargs)

    def roots(self) -> Iterable:
        """Where to look for what the function closes over."""
        return (self.function,)

    @functools.cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self.__wrapped__)
        except (ValueError, TypeError):  # builtins without one
            return None

    def python_signature(self) -> inspect.Signature | None:
        return self._signature

    def takes(self, count: int) -> bool:
        """Whether it may be called with `count` arguments by position; False also where only the signature tells."""
        code = plain_code(self.__wrapped__)
        if code is None or code.co_kwonlyargcount:
            return False
        return code.co_argcount - len(self.__wrapped__.__defaults__ or ()) <= count <= code.co_argcount

    @functools.cached_property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters that can be passed by position."""
        code = plain_code(self.__wrapped__)
        if code is not None:
            return code.co_varnames[: code.co_argcount]
        if self._signature is None:
            return ()
        by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return tuple(p.name for p in self._signature.parameters.values() if p.kind in by_position)

    # --- methods

    def __get__(self, instance, owner=None):
        if isinstance(self.function, (staticmethod, classmethod)):
            return self._of(self.function.__get__(instance, owner), owner)
        if instance is None:
            return self
        return self._of(MethodType(self.function, instance), instance)

    def _of(self, bound: Callable, holder) -> Function:
        """The same transformation of a bound method; kept for the last few holders."""
        key = Identity(holder)
        found = self._bound.get(key)
        if found is None:
            found = self._bound[key] = type(self)(bound, *self.options())
            while len(self._bound) > _BOUND_LIMIT:
                self._bound.popitem(last=False)
        return found

    # --- as a value

    @property
    def traces(self) -> int:
        """How often the function has been traced, for all signatures and changes of what it closes over."""
        return self._dispatcher.traces

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} of {self.name}>"

    def __reduce__(self):
        return type(self), (self.function, *self.options())

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self


def plain_code(function: Callable) -> CodeType | None:
    """The code of a function of Python's whose parameters are those of its code; None for all others."""
    if type(function) is not FunctionType or hasattr(function, "__wrapped__") or hasattr(function, "__signature__"):
        return None
    return function.__code__


class Grad(Function):
    """`grad` and `value_and_grad` of a function."""

    def __init__(
        self,
        function: Callable,
        argnums: int | tuple[int, ...],
        has_aux: bool,
        with_value: bool,
        tier: str,
        threads: int | None,
    ):
        self.argnums, self.has_aux, self.with_value = check_argnums(argnums), bool(has_aux), with_value
        super().__init__(function, tier, threads)

    def options(self) -> tuple:
        return self.argnums, self.has_aux, self.with_value, self.tier, self.threads

    def transformed(self, own: bool, args: tuple, kwargs: dict) -> Any:
        many = isinstance(self.argnums, tuple)
        argnums = self.argnums if isinstance(self.argnums, tuple) else (self.argnums,)
        args, kwargs = self._by_position(args, kwargs, argnums)
        value, gradients, aux = gradient(
            self.__wrapped__, self.parameters, argnums, self.has_aux, own, args, kwargs
        )
        result = tuple(gradients) if many else gradients[0]
        if self.with_value:
            return ((value, aux), result) if self.has_aux else (value, result)
        return (result, aux) if self.has_aux else result

    def _by_position(self, args: tuple, kwargs: dict, argnums: tuple[int, ...]) -> tuple[tuple, dict]:
        """The arguments, keywords that argnums speaks of moved to their positions."""
        needed = max(number + 1 if number >= 0 else -number for number in argnums)
        if len(args) >= needed or not kwargs or self._signature is None:
            return args, kwargs
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # the call itself will say it
            return args, kwargs
        return bound.args, bound.kwargs


class Jit(Function):
    """`jit` of a function."""

    def __init__(
        self, function: Callable, static_argnums: tuple, static_argnames: tuple, tier: str, threads: int | None = None
    ):
        self.static_argnums, self.static_argnames = static_argnums, static_argnames
        super().__init__(function, tier, threads)

    def options(self) -> tuple:
        return self.static_argnums, self.static_argnames, self.tier, self.threads

    def make_dispatcher(self) -> Dispatcher:
        return Dispatcher(self.tier, self.threads, self.static_argnums, self.static_argnames)

    def transformed(self, own: bool, args: tuple, kwargs: dict) -> Any:
        if not own:  # the function may rebind its arguments, as outside of a trace, without the caller seeing it
            args, kwargs = untied(args), untied(kwargs)
        return lifted(self.__wrapped__)(*args, **kwargs)


def check_argnums(argnums, name: str = "argnums") -> int | tuple[int, ...]:
    """argnums as an int or a tuple of ints."""
    many = isinstance(argnums, (tuple, list))
    for number in argnums if many else (argnums,):
        if type(number) is bool or not hasattr(number, "__index__"):
            raise UsageTypeError(f"{name} must be an integer or a tuple of integers, not {argnums!r}")
    if many and not argnums and name == "argnums":
        raise UsageValueError("argnums is empty: there is nothing to differentiate")
    return tuple(map(int, argnums)) if many else int(argnums)
