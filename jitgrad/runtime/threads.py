"""How many threads a process may use, and the pool that shares work among them."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path

from ..backends.cpu.pool import IMPORTED, PARALLEL_SYMBOL, RESET_SYMBOL, pool_source
from . import machine
from .kept import compiled_text

_GROUPS = Path("/sys/fs/cgroup")


def thread_count(wanted: int | None) -> int:
    """The most threads that a call may use: `wanted`, or as many as the process may have running at once."""
    return usable_threads() if wanted is None else wanted


def usable_threads(own: Path = Path("/proc/self/cgroup"), groups: Path = _GROUPS) -> int:
    """The processors that this thread may run on, or the control group's share of processor time, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [-(-quota // period) for quota, period in _quotas(own, groups) if quota > 0 and period > 0]
    return max(1, min([allowed, *shares]))


def _quotas(own: Path, groups: Path):
    """(quota, period) in microseconds, of the process's control group and of those around it, as far as they are visible.

    Version 2: a line `0::/path`, and `cpu.max`. Version 1: a line `4:cpu,cpuacct:/path`, and `cpu.cfs_quota_us` (-1: none).
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            for folder in _around(groups, path):
                yield from _numbers(folder / "cpu.max")
        elif "cpu" in controllers.split(","):
            for folder in _around(groups / "cpu", path):
                quota, period = (list(_numbers(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
                yield from ((q, p) for (q, _), (p, _) in zip(quota, period, strict=False))


def _around(mount: Path, path: str) -> list[Path]:
    inside = mount / path.lstrip("/")
    return [folder for folder in (inside, *inside.parents) if folder.is_relative_to(mount)]


def _numbers(file: Path):
    """The one or two numbers in the file as a pair; nothing where there is no such file, or no limit."""
    try:
        first, *rest = file.read_text().split()
        yield int(first), int(rest[0]) if rest else 0
    except (OSError, ValueError):  # "max" is no number
        return


def parallel_address() -> int:
    """The address of the native function that shares a program's work, for the word `parallel` of its record."""
    with machine.LOCK:  # there is one pool in a process
        return _pool().addresses[PARALLEL_SYMBOL]


@lru_cache(maxsize=1)
def _pool() -> machine.Code:
    library = ctypes.CDLL(None)
    for name in IMPORTED:
        machine.provide(name, machine.address_of(getattr(library, name)))
    source, symbols = pool_source(machine.host().triple), [PARALLEL_SYMBOL, RESET_SYMBOL]
    code = compiled_text(source, symbols, optimize=False, level=0)  # a quarter of the time; 2 ns a piece
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code.library))  # workers run it to the very end of the process
    reset = ctypes.CFUNCTYPE(None)(code.addresses[RESET_SYMBOL])
    reset()
    os.register_at_fork(after_in_child=reset)
    return code
