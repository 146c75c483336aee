"""The machine code that jitgrad keeps on disk: what is there, and how to be rid of it."""

from __future__ import annotations

from dataclasses import dataclass

from .runtime.disk import store


@dataclass(frozen=True)
class CacheInfo:
    """What `info` found.

    folder: where the files are; None when nothing is kept (the option `cache_dir` is "off", or there is no home).
    entries, bytes: kernels and routines in it, by all processes and versions, and the size of their files.
    hits, misses: how many this process looked for there and found, or had to compile.
    """

    folder: str | None
    entries: int
    bytes: int
    hits: int
    misses: int

    def __repr__(self) -> str:
        if self.folder is None:
            return "no machine code is kept on disk"
        return (
            f"{self.entries} entries, {self.bytes / 2**20:.1f} MiB in {self.folder}; "
            f"this process: {self.hits} hits, {self.misses} misses"
        )


def info() -> CacheInfo:
    """What is kept on disk, under the options as they stand here.

    >>> import jitgrad
    >>> with jitgrad.config(cache_dir="off"):
    ...     jitgrad.cache.info()
    no machine code is kept on disk
    """
    place = store()
    if place is None:
        return CacheInfo(None, 0, 0, 0, 0)
    return CacheInfo(place.folder, *place.size(), place.hits, place.misses)


def clear() -> None:
    """Removes all that is kept on disk. What this process has loaded or compiled stays in its memory.

    >>> import tempfile
    >>> import jitgrad
    >>> with tempfile.TemporaryDirectory() as folder, jitgrad.config(cache_dir=folder):
    ...     jitgrad.cache.clear()
    ...     jitgrad.cache.info().entries
    0
    """
    place = store()
    if place is not None:
        place.clear()
