"""`to_numba`: a compiled function or gradient for `@numba.njit` code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import Limitation, UsageTypeError
from ..runtime.executable import Executable
from ..runtime.numba_bridge import njit_function
from .function import Function, Jit


def to_numba(function: Callable, *examples) -> Callable:
    """`function`, compiled for arguments like `examples`, as a function that `@numba.njit` code can call.

    Args:
      function: a plain function, or one made by grad, value_and_grad or jit.
      examples: ndarrays (any shape, float or int dtype) and floats: the shapes and dtypes to compile for.

    Returns an njit function of as many positional arguments. Its results are new C-ordered arrays, scalars for shape
    (), a tuple where `function` returns several. It releases the GIL, raises TypeError for an argument of another
    dtype, ValueError for one of another shape, and IndexError for an index out of bounds. Arrays that `function` closes
    over are read at each call, but a name bound to another object later is not noticed.

    Raises:
      UsageTypeError: an example that is no array and no float, or a result that is no array or tuple of arrays.

    >>> import numba, numpy as np, jitgrad
    >>> slope = jitgrad.to_numba(jitgrad.grad(lambda x: np.sum(x ** 3)), np.ones(3))
    >>> @numba.njit
    ... def descend(x):
    ...     for _ in range(10):
    ...         x = x - 0.1 * slope(x)
    ...     return x
    >>> descend(np.array([1.0, 0.5, 0.0])).round(3)
    array([0.222, 0.188, 0.   ])
    """
    compiled = Jit(function, (), (), "compile", function.threads if isinstance(function, Function) else None)
    for k, example in enumerate(examples):
        if type(example) not in (np.ndarray, float):
            raise UsageTypeError(f"example {k} is a {type(example).__name__}", "Pass ndarrays and floats.")
    examples = tuple(np.ascontiguousarray(e) if isinstance(e, np.ndarray) and e.ndim else e for e in examples)
    program, arrays = compiled._dispatcher.find(compiled, examples, {})
    program.run(arrays)
    executable = program.runner.executable
    if not isinstance(executable, Executable):
        raise Limitation("this function has no native code", "Arguments wider than 8 bytes an element stay in NumPy.")
    if not program.direct:
        raise UsageTypeError("only functions that return an array, a number, or a tuple of them can be called from njit")
    return njit_function(executable, program.kinds or (), program.guards.current() or ())


