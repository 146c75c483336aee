"""Python's control flow as nodes: a function's source, rewritten so that loops and branches are decided when it is traced.

    source      the syntax tree of a function's own source
    names       which names a piece of it reads and binds
    rewrite     `for`, `while`, `if`, `and`, calls, stores, ... become calls of the helper `stage`
    functions   which functions are rewritten, and what calls in rewritten code do
    values      what names hold, taken apart into what a loop carries and what stays the same
    iterables   what a loop may go over
    stage       the helper: what stands for a statement when rewritten code runs

Values that are not traced are treated as Python treats them: a loop over a list, a branch on a plain number, run as they are.
"""

from __future__ import annotations

from . import stage  # noqa: F401  (gives the helper to `functions`)
from .functions import lifted

__all__ = ["lifted"]
