"""How many rewrites the passes may still make: a wrong one is found by halving the number (`config.fuel`)."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar

_left: ContextVar[list[int] | None] = ContextVar("jitgrad_fuel", default=None)


@contextmanager
def limited(rewrites: int | None):
    """Inside, at most so many rewrites are made; None: any number.

    >>> with limited(1):
    ...     spend(), spend()
    (True, False)
    """
    token = _left.set(None if rewrites is None else [rewrites])
    try:
        yield
    finally:
        _left.reset(token)


def spend() -> bool:
    """Whether one more rewrite may be made; counts it."""
    left = _left.get()
    if left is None:
        return True
    left[0] -= 1
    return left[0] >= 0
