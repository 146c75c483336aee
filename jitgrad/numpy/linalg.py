"""numpy.linalg on traced arrays: every name of it, as `jitgrad.numpy` has those of NumPy.

>>> import numpy as np
>>> import jitgrad.numpy.linalg as la
>>> float(la.norm(np.array([3.0, 4.0])))
5.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as _np

from . import _public

if TYPE_CHECKING:
    from numpy.linalg import *  # noqa: F403


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    return _public.attribute(_np.linalg, "linalg.", name, globals())


def __dir__() -> list[str]:
    return dir(_np.linalg)
