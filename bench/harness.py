"""From a function to its figures: timing, agreement of results, statistics, and the run that holds them."""
from __future__ import annotations

import gc
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from bench.rows.row import AGREEMENT, leaves

SAMPLE_SECONDS = 0.002          # a sample repeats its call until it lasts about so long
SETTLE_SECONDS = {"1": 0.001, "all": 0.2}  # pools of OpenBLAS and OpenMP spin for so long after an engine's last call
BASE = "jitgrad"


@dataclass(frozen=True)
class Measurement:
    """What was measured for one row, one engine and one thread setting.

    `seconds` has one entry per round, per call; `cores` the processor seconds spent per second in that
    sample; `first` is the first call's seconds. `error` says why there are none, `disagreement` how the
    result differs from that of the row's reference.
    """
    row: str
    engine: str
    setting: str
    first: float | None = None
    repetitions: int = 1
    seconds: tuple[float, ...] = ()
    cores: tuple[float, ...] = ()
    error: str | None = None
    disagreement: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Document:
    """One run: where and with what it was made (`about`), and every measurement."""
    about: dict[str, Any]
    measurements: tuple[Measurement, ...]

    def save(self, path: str | Path, **more: Any) -> None:
        """Write the run as JSON; `more` is for programs that read it, and `load` leaves it out."""
        Path(path).write_text(json.dumps(asdict(self) | more, indent=1))

    @classmethod
    def load(cls, path: str | Path) -> Document:
        """The run that `save` wrote."""
        data = json.loads(Path(path).read_text())
        return cls(data["about"], tuple(
            Measurement(**m | {"seconds": tuple(m["seconds"]), "cores": tuple(m["cores"])})
            for m in data["measurements"]))


# ---- timing

def timed(thunk: Callable, repetitions: int = 1) -> tuple[float, float]:
    """Wall and processor seconds of so many calls."""
    gc.disable()
    try:
        processor, wall = time.process_time(), time.perf_counter()
        for _ in repeat(None, repetitions):
            thunk()
        return time.perf_counter() - wall, time.process_time() - processor
    finally:
        gc.enable()


def calibrate(thunk: Callable) -> int:
    """How often to repeat a call so that a sample lasts at least about `SAMPLE_SECONDS`."""
    repetitions = 1
    while (wall := timed(thunk, repetitions)[0]) < SAMPLE_SECONDS / 2:
        repetitions *= 2
    return max(1, math.ceil(repetitions * SAMPLE_SECONDS / wall))


def sample(thunk: Callable, repetitions: int, *, warm: bool, settle: float = 0.0) -> tuple[float, float]:
    """Seconds per call and cores used, after a pause of `settle` seconds and, for a `warm` sample, an uncounted call."""
    time.sleep(settle)
    if warm:
        thunk()
    wall, processor = timed(thunk, repetitions)
    return wall / repetitions, processor / wall


def rounds_for(cost: float, budget: float, least: int, most: int) -> int:
    """How many rounds of `cost` seconds fit into the budget."""
    return max(least, min(most, int(budget / max(cost, 1e-9))))


# ---- agreement

Leaf = np.ndarray | float


def host_leaves(result: Any, host: Callable) -> list[Leaf]:
    """The result's leaves as ndarrays of their own; Python floats stay, since they have no dtype that could be wrong."""
    return [leaf if type(leaf) is float else np.array(host(leaf)) for leaf in leaves(result)]


def disagreement(result: list[Leaf], reference: list[Leaf]) -> str | None:
    """How two results differ by more than their dtype's tolerance, shape or dtype; None if they agree."""
    if len(result) != len(reference):
        return f"{len(result)} results where {len(reference)} were expected"
    for i, (ours, theirs) in enumerate(zip(result, reference, strict=True)):
        dtypes = [leaf.dtype.name for leaf in (ours, theirs) if not isinstance(leaf, float)]
        if len(set(dtypes)) > 1:
            return f"result {i} is {dtypes[0]}, not {dtypes[1]}"
        if np.shape(ours) != np.shape(theirs):
            return f"result {i} has shape {np.shape(ours)}, not {np.shape(theirs)}"
        scale = float(np.max(np.abs(theirs), initial=0.0))
        difference = float(np.max(np.abs(ours - theirs), initial=0.0))
        if not difference <= AGREEMENT[dtypes.pop() if dtypes else "float64"] * scale:
            return f"result {i} differs by {difference:.2g} where the largest entry is {scale:.2g}"
    return None


# ---- statistics

@dataclass(frozen=True)
class Ratio:
    """How many times longer a peer took than jitgrad: median over the rounds, and the quartiles."""
    median: float
    low: float
    high: float
    setting: str


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile, interpolated linearly."""
    low, median, high = np.percentile(list(values), [25, 50, 75])
    return float(low), float(median), float(high)


def best(measurements: Iterable[Measurement]) -> Measurement | None:
    """The measurement whose median is smallest: the engine's better thread setting."""
    return min((m for m in measurements if m.seconds), key=lambda m: m.median, default=None)


def ratio(peer: Measurement, base: Measurement) -> Ratio:
    """Paired by round, since what disturbs a shared machine lasts longer than a round."""
    low, median, high = quartiles(p / b for p, b in zip(peer.seconds, base.seconds, strict=False))
    return Ratio(median, low, high, peer.setting)


def geometric_mean(values: Iterable[float]) -> float:
    """The n-th root of the product."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def by_row(document: Document) -> dict[str, dict[str, list[Measurement]]]:
    """row -> engine -> its measurements, in the order of the run."""
    rows: dict[str, dict[str, list[Measurement]]] = {}
    for m in document.measurements:
        rows.setdefault(m.row, {}).setdefault(m.engine, []).append(m)
    return rows


def ratios(document: Document, setting: str | None = None) -> dict[str, dict[str, Ratio]]:
    """row -> peer -> ratio, for the rows and peers that have one; with a `setting` everybody has that one."""
    table: dict[str, dict[str, Ratio]] = {}
    if setting is not None:
        document = replace(document, measurements=tuple(m for m in document.measurements if m.setting == setting))
    for row, engines in by_row(document).items():
        base = best(engines.get(BASE, ()))
        peers = {name: best(found) for name, found in engines.items() if name != BASE}
        if base is not None:
            table[row] = {name: ratio(peer, base) for name, peer in peers.items() if peer is not None}
    return table


def engines_of(document: Document) -> list[str]:
    """jitgrad, then the peers in the order of the run."""
    names = dict.fromkeys(m.engine for m in document.measurements)
    return [BASE] * (BASE in names) + [name for name in names if name != BASE]
