"""The public transformations: thin, documented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import tree
from ..errors import UsageTypeError
from ..frontend.array import Array
from ..frontend.trace import current
from ..ir.node import call
from .function import Function, Grad, Jit, check_argnums
from .inline import check_primals, directional
from .njit import to_numba
from .pullback import Pullback, Vjp

__all__ = ["Pullback", "grad", "is_traced", "jit", "jvp", "stop_gradient", "to_numba", "value_and_grad", "vjp"]


def grad(
    function: Callable | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    tier: str = "auto",
    threads: int | None = None,
) -> Callable:
    """The gradient of a function with a scalar result, as a function of the same arguments.

    Args:
      function: takes arrays, floats and nests of them (tuple, list, dict, namedtuple, dataclass, None); returns a real
        scalar. Other arguments (ints, strings, functions, ...) are fixed values: another value is another trace.
      argnums: which positional arguments to differentiate with respect to; negative ones count from the end. An int
        gives one gradient, a tuple a tuple of gradients. Each has its argument's containers, shapes and dtypes.
      has_aux: the function returns (scalar, anything): the result is (gradient, anything).
      tier: "auto" (the first call of a small function is interpreted, later ones are compiled), "compile" (always
        compiled, so bitwise the same from the first call on) or "interpret" (never compiled).
      threads: the most threads that a call uses; None for the option `threads` of `jitgrad.config`. Compiled results are
        bitwise the same for any number.

    Raises:
      UsageError: for a result that is no real scalar, an integer argument to differentiate, argnums out of range.

    Arrays that the function closes over are read at each call, so that changes in place are seen; a changed number,
    function or attribute means a new trace. `jitgrad.frontend.captures` says what is watched and what cannot be.
    Usable as a decorator, with or without arguments, on functions and methods (argnums count after self).

    >>> import numpy as np
    >>> def f(x, y):
    ...     return np.sum(np.sin(x) * y)
    >>> grad(f, argnums=1)(np.zeros(3), 2.0)
    np.float64(0.0)
    >>> grad(grad(lambda x: x ** 3))(2.0)
    np.float64(12.0)

    Reverse mode, as in Griewank & Walther, Evaluating Derivatives (2008), chapter 3.
    """
    if function is None:
        return lambda f: grad(f, argnums, has_aux, tier=tier, threads=threads)
    return Grad(function, check_argnums(argnums), has_aux, False, tier, threads)


def value_and_grad(
    function: Callable | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    tier: str = "auto",
    threads: int | None = None,
) -> Callable:
    """As `grad`, with the function's value: (value, gradient), or ((value, aux), gradient) if `has_aux`.

    >>> value_and_grad(lambda x: x * x)(3.0)
    (np.float64(9.0), np.float64(6.0))
    """
    if function is None:
        return lambda f: value_and_grad(f, argnums, has_aux, tier=tier, threads=threads)
    return Grad(function, check_argnums(argnums), has_aux, True, tier, threads)


def jit(
    function: Callable | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    *,
    tier: str = "compile",
    threads: int | None = None,
) -> Callable:
    """The function, compiled: same arguments, same result.

    Args:
      function: takes and returns anything; arrays and floats are traced, everything else is fixed at tracing. Arrays in
        the result are new ones and share no memory with the arguments; 0-d ones are NumPy scalars.
      static_argnums, static_argnames: arguments that are fixed values even if they are floats or containers; they
        must have a hash.
      tier, threads: see `grad`.

    >>> import numpy as np
    >>> @jit
    ... def normalized(x):
    ...     return {"unit": x / np.sqrt(np.sum(x * x)), "name": "x"}
    >>> normalized(np.array([3.0, 4.0]))
    {'unit': array([0.6, 0.8]), 'name': 'x'}
    """
    if function is None:
        return lambda f: jit(f, static_argnums, static_argnames, tier=tier, threads=threads)
    numbers = check_argnums(static_argnums, "static_argnums")
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    if not all(isinstance(name, str) for name in names):
        raise UsageTypeError(f"static_argnames must be names, not {static_argnames!r}")
    return Jit(function, numbers if isinstance(numbers, tuple) else (numbers,), names, tier, threads)


def vjp(
    function: Callable, *primals, has_aux: bool = False, tier: str = "auto", threads: int | None = None
) -> tuple:
    """(output, pullback) of `function(*primals)`, or (output, pullback, aux) if it returns (output, aux).

    `pullback(cotangents)`, of what the output is built like, gives a tuple of the primals' cotangents: the transposed
    Jacobian times `cotangents`. It may be called any number of times, and does not see later changes of the primals.

    Raises UsageError for primals that are no real floats, and for cotangents of another structure, shape or dtype.

    >>> import numpy as np
    >>> output, pullback = vjp(lambda x, y: x * y, np.array([1.0, 2.0]), 3.0)
    >>> output, pullback(np.array([1.0, 10.0]))
    (array([3., 6.]), (array([ 3., 30.]), np.float64(21.0)))
    """
    output, pull_back, aux = Vjp(function, bool(has_aux), tier, threads)(*primals)
    return (output, pull_back, aux) if has_aux else (output, pull_back)


class _Jvp(Function):
    """`jvp` of a function, as a function of (primals, tangents)."""

    def transformed(self, own: bool, args: tuple, kwargs: dict) -> Any:
        return directional(self.__wrapped__, own, *args)

    def python_signature(self) -> None:
        return None

    parameters = ("primals", "tangents")  # type: ignore[assignment]


def jvp(
    function: Callable, primals: Sequence, tangents: Sequence, *, tier: str = "auto", threads: int | None = None
) -> tuple:
    """(output, tangent of the output) of `function(*primals)` along `tangents`: the Jacobian times `tangents`.

    `tangents` are built like `primals`, a tuple with one entry per argument, with the same shapes and dtypes.

    Raises UsageError for primals that are no real floats, and for tangents of another structure, shape or dtype.

    >>> jvp(lambda x: x * x, (3.0,), (1.0,))
    (np.float64(9.0), np.float64(6.0))
    """
    return _Jvp(function, tier, threads)(check_primals(primals, "primals"), check_primals(tangents, "tangents"))


def stop_gradient(x):
    """`x` as a constant of all derivatives: same value, no derivative flows through it. Takes nests as well.

    >>> grad(lambda x: x * stop_gradient(x))(3.0)
    np.float64(3.0)
    """
    return tree.map_leaves(
        lambda leaf: Array(call("stop_gradient", leaf.node), leaf.weak) if isinstance(leaf, Array) else leaf, x
    )


def is_traced(x) -> bool:
    """Whether `x`, or anything in it, is a traced array, whose numbers are not known yet.

    >>> is_traced(1.0), grad(lambda x: x if is_traced(x) else 2 * x)(5.0)
    (False, np.float64(1.0))
    """
    return current() is not None and any(isinstance(leaf, Array) for leaf in tree.flatten(x)[0])
