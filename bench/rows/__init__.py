"""The catalogue: every row of the benchmark, one module per family."""
from __future__ import annotations

from dataclasses import replace

from bench.rows import (
    call,
    compile,
    elementwise,
    gather,
    graph,
    layernorm,
    math,
    mixture,
    mlp,
    newsize,
    once,
    pairwise,
    product,
    reduction,
    regression,
    second,
    start,
)
from bench.rows.row import AnyRow, Row


def compiled_by_torch(row: Row) -> Row:
    """The row, where what PyTorch runs eagerly is the program of torch.compile too."""
    return replace(row, programs={**row.programs, "torch.compile": row.programs["torch"]}
                   if "torch" in row.programs else row.programs)


ROWS: tuple[AnyRow, ...] = (
    *call.ROWS,
    *compile.ROWS,
    *graph.ROWS,
    *once.ROWS,
    *start.ROWS,
    *newsize.ROWS,
    *(compiled_by_torch(row) for family in (elementwise, reduction, regression, layernorm, pairwise, mixture, gather,
                                            product, mlp) for row in family.ROWS),
    *math.ROWS,
    *second.ROWS,
)
FAMILIES = tuple(dict.fromkeys(row.name.split(".")[0] for row in ROWS))
