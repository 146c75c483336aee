"""Whether what runs now may have side effects: not while a loop is tried, nor on one side of a branch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import Limitation
from ...ir.node import scope


class Impure(Limitation):
    """A side effect where there must be none: a loop is unrolled then, a branch decided by the actual values."""


@contextmanager
def pure() -> Iterator[None]:
    """Side effects inside are refused."""
    facts = scope().facts
    facts["pure"] = facts.get("pure", 0) + 1
    try:
        yield
    finally:
        facts["pure"] -= 1


@contextmanager
def demanded() -> Iterator[None]:
    """Side effects inside are refused for good: there is no other way than to compute."""
    try:
        with pure():
            yield
    except Impure as error:
        raise refusal(error) from None


def refusal(error: Impure) -> Limitation:
    """The error for the user; inside of a loop that is only tried, or a branch, that one hears of it."""
    return error if is_pure() else Limitation(error.what, error.todo, error.where)


def is_pure() -> bool:
    return bool(scope().facts.get("pure", 0))


def side_effect(what: str) -> None:
    """To be called before a side effect."""
    if is_pure():
        raise Impure(
            f"{what}, in a loop or branch that depends on traced values",
            "Such code is traced once and must only compute: return values, or collect them by x[i] = v in an array.",
        )
