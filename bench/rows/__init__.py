"""The catalogue: every row of the benchmark, one module per family."""
from __future__ import annotations

from bench.rows import call, compile, elementwise, math, mlp, newsize, reduction, regression, second, start
from bench.rows.row import AnyRow

ROWS: tuple[AnyRow, ...] = (
    *call.ROWS,
    *compile.ROWS,
    *start.ROWS,
    *newsize.ROWS,
    *elementwise.ROWS,
    *math.ROWS,
    *reduction.ROWS,
    *regression.ROWS,
    *mlp.ROWS,
    *second.ROWS,
)
