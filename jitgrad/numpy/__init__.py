"""NumPy on traced arrays.

Every name of NumPy is here. With traced values, and with arrays inside a traced function, its functions are
traced; with plain values they are NumPy's own and give its own results. What NumPy's protocols cannot route
works as well: arrays made of lists of traced values, and arrays to be filled in. A function that jitgrad has
no rule for raises a Limitation when it meets a traced value.

>>> import numpy as np
>>> import jitgrad.numpy as jnp
>>> jnp.sum(np.array([1.0, 2.0]))
np.float64(3.0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as _np

from . import (  # noqa: F401  (they fill the tables of rules)
    _build,
    _public,
    creation,
    cumulative,
    einstein,
    elementary,
    joining,
    linalg,
    norms,
    ordering,
    padding,
    products,
    reductions,
    searching,
    selecting,
    shaping,
    statistics,
    ufuncs,
)

if TYPE_CHECKING:
    from numpy import *  # type: ignore[no-redef]  # noqa: F403


def __getattr__(name: str):
    if name.startswith("__") and name not in __all__:
        raise AttributeError(name)
    return _public.attribute(_np, "", name, globals())


def __dir__() -> list[str]:
    return dir(_np)


__all__ = list(_np.__all__)
