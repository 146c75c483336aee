"""What a run amounts to: means by family, the share of the machine's limits that is reached, and the goals."""
from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bench.harness import BASE, Document, Ratio, best, by_row, geometric_mean, ratios
from bench.limits import Limits
from bench.rows.row import Work

# What jitgrad wants to reach: at least such a geometric mean over the rows; no row below such a ratio; such a share of
# the bandwidth of memory where that is the limit.
MEANS = {"jax": 2.0, "torch": 6.0}
LEAST = {"jax": 0.95, "numba": 1.0 / 1.05}
BANDWIDTH = 0.8


# ---- the machine's limits

@dataclass(frozen=True)
class Share:
    """The least time that the machine's `limit` ("memory" or "flops") allows, as a share of the time that was taken."""
    share: float
    limit: str


def least_seconds(work: Work, limits: Limits, setting: str) -> tuple[float, str]:
    """The longer of what the memory and what the arithmetic takes; arrays that fit into the cache need no memory.

    A byte costs what it costs when read, or half of what a copied one costs beyond that.
    """
    speed = limits.speed(setting)
    arithmetic = work.flops / getattr(speed, work.dtype)
    if work.read + work.written <= 2 * limits.cache:
        return arithmetic, "flops"
    writing = max(0.0, 2.0 / speed.copy - 1.0 / speed.read)
    memory = work.read / speed.read + work.written * writing
    return max((memory, "memory"), (arithmetic, "flops"))


def shares(document: Document) -> dict[str, Share]:
    """row -> what jitgrad reaches of the machine's limit in its better setting, for the rows that say their work."""
    about = document.about
    if "limits" not in about:
        return {}
    limits, found = Limits.of(about["limits"]), {}
    for row, engines in by_row(document).items():
        measured = best(engines.get(BASE, ()))
        work = about.get("work", {}).get(row)
        if measured is not None and work is not None:
            seconds, limit = least_seconds(Work(**work), limits, measured.setting)
            found[row] = Share(seconds / measured.median, limit)
    return found


# ---- means

def family_means(table: dict[str, dict[str, Ratio]]) -> dict[str, dict[str, tuple[float, int]]]:
    """family -> peer -> geometric mean of its ratios and their number; the family "all" is all of them."""
    found: dict[str, dict[str, list[float]]] = {}
    for row, peers in table.items():
        for family in (row.split(".")[0], "all"):
            for name, ratio in peers.items():
                found.setdefault(family, {}).setdefault(name, []).append(ratio.median)
    everything = found.pop("all", {})
    return {family: {name: (geometric_mean(values), len(values)) for name, values in peers.items()}
            for family, peers in [*found.items(), ("all", everything)]}


# ---- goals

@dataclass(frozen=True)
class Goal:
    """One goal: what is wanted, what was achieved, and the rows that fall short, the worst first."""
    wanted: str
    achieved: str
    met: bool
    short: tuple[str, ...] = ()


def goals(document: Document) -> list[Goal]:
    """The goals that this run says something about."""
    table = ratios(document)
    everything = family_means(table)["all"] if table else {}
    found = [Goal(f"geometric mean against {name} >= {wanted:g}", f"{everything[name][0]:.2f}", everything[name][0] >= wanted)
             for name, wanted in MEANS.items() if name in everything]
    for name, wanted in LEAST.items():
        values = {row: peers[name].median for row, peers in table.items() if name in peers}
        if values:
            found.append(_every(f"every row against {name} >= {wanted:.2f}", values, wanted))
    bound = {row: share.share for row, share in shares(document).items() if share.limit == "memory"}
    if bound:
        found.append(_every(f"memory-bound rows >= {BANDWIDTH:.0%} of the bandwidth", bound, BANDWIDTH))
    return found


def _every(wanted: str, values: dict[str, float], least: float) -> Goal:
    short = sorted((value, row) for row, value in values.items() if value < least)
    return Goal(wanted, f"{len(values) - len(short)} of {len(values)} rows", not short,
                tuple(f"{row} {value:.2f}" for value, row in short))


# ---- for programs

def as_data(document: Document) -> dict[str, Any]:
    """All of this as JSON wants it."""
    both = {"best": ratios(document), "one thread each": ratios(document, "1")}
    return {
        "ratios": {which: {row: {name: asdict(ratio) for name, ratio in peers.items()} for row, peers in table.items()}
                   for which, table in both.items()},
        "means": family_means(both["best"]),
        "shares": {row: asdict(share) for row, share in shares(document).items()},
        "goals": [asdict(goal) for goal in goals(document)],
    }
