"""Measure the memory that a value and gradient takes: `python bench/memory.py [--peers jax,torch] [--json file]`.

Each row and engine has a process of its own. There the row's program runs on tiny data, so that what it imports is there, and
a few times on its data; then its peak is taken during one more call (the system's high-water mark of resident pages, which
Linux lets a process reset), less what the process held, arguments included, before the first call on them. Results,
intermediates and whatever is kept between calls count, compiling does not.
"""
from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":      # the root, not the script's folder, so that `bench` and `jitgrad` are found
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.harness import BASE
from bench.report import aligned
from bench.rows import ROWS, engines
from bench.rows.row import Engine, Row, map_leaves
from bench.run import usable_cores

DEFAULT_ROWS = (
    "elementwise.rational 1e7 float64", "elementwise.transcendental 1e7 float64", "reduction.moments-axis0 20000x500 float64",
    "reduction.logsumexp 20000x500 float64", "regression.logistic 200000x50 float64", "regression.softmax 200000x50 float64",
    "layernorm.16384x512 float64", "pairwise.coulomb 2000 float64", "mixture.10000x16x8 float64",
    "gather.pairs 2e5 of 50000x32 float64", "product.1024 float64", "mlp.1024-1024-10 batch 1024 float64",
)
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"                # see proc(5)
CALLS_BEFORE = 2                # jitgrad's second call is the first that goes through its native entry
SLACK = 4 << 20                 # bytes of allocators and code in which two engines may differ without meaning


@dataclass(frozen=True)
class Peak:
    """Bytes at the peak of a call above what was there before; `told` by jitgrad's explain; `error` if there is none."""
    grown: int | None = None
    told: int | None = None
    error: str | None = None


# ---- in a process of its own

def resident(which: str) -> int:
    """Bytes of resident memory: "VmRSS" now, "VmHWM" at the peak."""
    found = re.search(rf"^{which}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"the system does not tell {which}")
    return 1024 * int(found[1])


def settle() -> None:
    """Give back what is free, so that it is not used again unseen; a library may still be copying its arguments."""
    time.sleep(0.2)
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_of(name: str, engine_name: str, size: dict | None = None) -> Peak:
    """The peak of the row's program, in this process."""
    row, = (row for row in ROWS if row.name == name)
    assert isinstance(row, Row)
    engine = engines.load(engine_name, usable_cores())
    for _ in range(CALLS_BEFORE):
        row.thunks(engine, **row.tiny)(0)()
    thunk = row.thunks(engine, **(size or {}))(0)
    settle()
    before = resident("VmRSS")
    for _ in range(CALLS_BEFORE):
        thunk()
    settle()
    RESET.write_text(RESET_PEAK)
    result = thunk()
    grown = resident("VmHWM") - before
    del result
    return Peak(grown, told(row, engine, size or {}) if engine_name == BASE else None)


def told(row: Row, engine: Engine, size: dict) -> int | None:
    """What `explain` says of the same call."""
    function = row.programs[BASE](engine)
    arguments = map_leaves(engine.arrays, row.inputs(engine.np.random.default_rng(0), **{**row.size, **size}))
    found = re.search(r"^peak memory of a call: ([\d,]+) bytes", engine.library.explain(function, *arguments), re.MULTILINE)
    return int(found[1].replace(",", "")) if found else None


# ---- in the parent

def measured(name: str, engine_name: str, size: dict | None = None) -> Peak:
    """The peak, measured in a new process; jitgrad has compiled for the same call in one before, so that the memory of
    LLVM, which is not given back, does not count."""
    if engine_name == BASE:
        _in_new_process(name, engine_name, size)
    return _in_new_process(name, engine_name, size)


def _in_new_process(name: str, engine_name: str, size: dict | None) -> Peak:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(peak_of, name, engine_name, size).result()
        except BrokenProcessPool:
            return Peak(error="the process died")
        except Exception as error:                      # a failed row is a result; the run goes on
            return Peak(error=f"{type(error).__name__}: {error}"[:200])


def table(peaks: dict[str, dict[str, Peak]]) -> str:
    """jitgrad's megabytes, measured and told, and each peer's ratio to it."""
    names = list(dict.fromkeys(name for found in peaks.values() for name in found))
    peers = [name for name in names if name != BASE]
    lines = [["row", BASE, "told", *peers]]
    for row, found in peaks.items():
        base = found.get(BASE, Peak())
        lines.append([row, megabytes(base.grown), megabytes(base.told),
                      *(ratio_cell(found.get(name, Peak()), base) for name in peers)])
    return aligned(lines)


def megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f} MB"


def ratio_cell(peer: Peak, base: Peak) -> str:
    if peer.error or peer.grown is None:
        return "FAILED" if peer.error else ""
    if not base.grown:
        return megabytes(peer.grown)
    return f"{peer.grown / base.grown:.3g}{'!' if is_more(base, peer) else ''}"


def is_more(base: Peak, peer: Peak) -> bool:
    """Whether jitgrad took more than the peer, beyond what means nothing."""
    return base.grown is not None and peer.grown is not None and base.grown > peer.grown + SLACK


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 if jitgrad failed a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", default="jax,torch,autograd,numba", help="comma-separated; '' for jitgrad alone")
    parser.add_argument("--rows", help="comma-separated beginnings of row names; a dozen large rows if left out")
    parser.add_argument("--json", help="write the bytes to this file")
    options = parser.parse_args(arguments)
    chosen = [row.name for row in ROWS if isinstance(row, Row) and row.name.startswith(tuple(options.rows.split(",")))
              ] if options.rows else list(DEFAULT_ROWS)
    programs = {row.name: row.programs for row in ROWS}
    names = [BASE, *filter(None, options.peers.split(","))]
    peaks = {row: {name: measured(row, name) for name in names if name in programs[row]} for row in chosen}
    print(table(peaks))
    print("\nCells: growth at the peak of a call, what explain says of it, and peer / jitgrad; ! = jitgrad takes more.")
    above = [row for row, found in peaks.items() if is_more(found.get(BASE, Peak()), found.get("jax", Peak()))]
    print(f"{'MISSED' if above else 'met'}: never above JAX", *above, sep="\n  ")
    for row, found in peaks.items():
        for name, peak in found.items():
            if peak.error:
                print(f"FAILED: {row}, {name}: {peak.error}")
    if options.json:
        Path(options.json).write_text(json.dumps({row: {name: vars(peak) for name, peak in found.items()}
                                                  for row, found in peaks.items()}, indent=1))
    return int(any(found[BASE].error for found in peaks.values()))


if __name__ == "__main__":
    sys.exit(main())
