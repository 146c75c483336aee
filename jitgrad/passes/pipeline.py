"""The pipeline: one literal tuple, and the one gate that every pass goes through."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..config import config
from ..errors import InternalError, Limitation, UsageError
from ..ir.graph import Graph
from .control import hoist, optimize_bodies, prune
from .fuel import limited
from .places import join_places
from .products import expand_products
from .scatters import chain_scatters
from .short_axes import split_short_axes
from .simplify import simplify
from .stores import store_places, store_regions
from .units import drop_units
from .views import lift_broadcasts, sink_views

Pass = Callable[[Graph], Graph]

def _of_bodies(graph: Graph) -> Graph:
    return optimize_bodies(_optimize_body)(graph)


def _optimize_body(graph: Graph) -> Graph:
    """The passes inside of a loop or branch: those that need not see the whole."""
    for name, run in PASSES:
        if name not in config.skip and name not in _OF_THE_WHOLE:
            graph = run(graph)
            if name == "simplify" and "store_places" not in config.skip:
                graph = simplify(store_places(graph))
    return graph


_OF_THE_WHOLE = ("prune", "hoist", "store_regions")  # those that go into bodies themselves, or have no place there

PASSES: tuple[tuple[str, Pass], ...] = (
    ("prune", prune),                      # results of loops and branches that nobody reads
    ("hoist", hoist),                      # work that each step of a loop would do again
    ("bodies", _of_bodies),                # all of this inside of loops and branches
    ("simplify", simplify),
    ("join_places", join_places),          # cotangents of x[0], x[1], ...: one array, not a sum of as many
    ("chain_scatters", chain_scatters),    # cotangents of x[i], x[j], ...: added to one array
    ("expand_products", expand_products),  # before views move: products with one row or column become sums
    ("drop_units", drop_units),            # (1, n) and (n, 1) are loops over n
    ("lift_broadcasts", lift_broadcasts),  # work on the small array, then spread the result
    ("sink_views", sink_views),            # views next to memory, so that chains of arithmetic have one shape
    ("tidy", simplify),                    # what the moved views left behind
    ("split_short_axes", split_short_axes),  # sums over a few places become plain arithmetic
    ("store_regions", store_regions),      # stores outside of loops: in place, those of one array together
)


def pass_names() -> tuple[str, ...]:
    return tuple(name for name, _ in PASSES)


def optimize(graph: Graph, observe: Callable[[str, Graph, float], None] | None = None) -> Graph:
    """`graph` after every pass that `config.skip` does not name, with as many rewrites as `config.fuel` allows;
    `observe("pass:<name>", graph, seconds)` sees each result."""
    with limited(config.fuel):
        for name, run in PASSES:
            if name in config.skip:
                continue
            started = time.perf_counter()
            graph = _run(name, run, graph)
            if observe is not None:
                observe("pass:" + name, graph, time.perf_counter() - started)
    return graph


def _run(name: str, run: Pass, graph: Graph) -> Graph:
    """The pass's result; a bug in it is reported as one, with its name."""
    try:
        return run(graph)
    except (UsageError, Limitation):
        raise
    except Exception as error:
        what = error.what if isinstance(error, InternalError) else f"{type(error).__name__}: {error}"
        where = error.where if isinstance(error, InternalError) else None
        raise InternalError(f"the pass {name} failed: {what} (JITGRAD_SKIP={name} leaves it out)", where) from error
