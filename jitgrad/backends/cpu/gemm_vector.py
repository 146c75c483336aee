"""Matrix-vector products in LLVM IR: rows of dot products, or a combination of contiguous columns."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from jitgrad.backends.cpu.gemm_loops import I1, CarriedLoop, Code, Context, i64
from jitgrad.backends.cpu.gemm_micro import store_rows
from jitgrad.backends.cpu.gemm_tile import VECTOR_CHUNK

ROWS = 4
"""Rows of a product by rows that share a load of x."""

COLUMNS = 4
"""Columns that share one load and store of y; a product by columns is asked for a multiple of it."""

Parameters = dict[str, ir.Value]


def emit_by_rows(context: Context, nothing: ir.Value, copy_out: ir.Function) -> ir.Function:
    """``y = A x`` or ``y += A x`` for contiguous rows of A: ``m k a rsa x sx y sy acc ws``.

    Runs over chunks of k; a strided x is gathered into ``ws``, ``min(k, VECTOR_CHUNK)`` elements, first.
    """
    dot = _emit_dot_rows(context, nothing)
    code, p = context.function("by_rows", "m:i k:i a:p rsa:i x:p sx:i y:p sy:i acc:b ws:p")
    one = i64(1)
    with code.loop(i64(0), p["k"], i64(VECTOR_CHUNK)) as q:
        count = code.least(code.sub(p["k"], q), i64(VECTOR_CHUNK))
        x = code.at(p["x"], code.mul(q, p["sx"]))
        strided = code.icmp_signed("!=", p["sx"], one)
        with code.if_then(strided):
            code.invoke(copy_out, count, one, x, p["sx"], p["ws"], one, one, ir.Constant(I1, 0))
        x = code.select(strided, p["ws"], x)
        acc = code.or_(p["acc"], code.icmp_signed(">", q, i64(0)))
        code.invoke(dot, p["m"], count, code.at(p["a"], q), p["rsa"], x, p["y"], p["sy"], acc)
    code.ret_void()
    return code.function


def _emit_dot_rows(context: Context, nothing: ir.Value) -> ir.Function:
    """``y[i] = sum_q A[i, q] x[q]`` by groups of rows, for contiguous rows of A and contiguous x.

    Parameters ``m k a rsa x y sy acc``; rows that do not exist repeat the last one.
    """
    code, p = context.function("dot_rows", "m:i k:i a:p rsa:i x:p y:p sy:i acc:b")
    stride = code.select(p["acc"], p["sy"], i64(0))
    whole = code.and_(p["k"], i64(-context.tile.lanes))
    with code.loop(i64(0), p["m"], i64(ROWS)) as row:
        count = code.sub(p["m"], row)
        end = code.sub(count, i64(1))
        rows = [code.at(p["a"], code.mul(row, p["rsa"]))]
        rows += [code.at(rows[0], code.mul(code.least(i64(i), end), p["rsa"])) for i in range(1, ROWS)]
        y = code.at(p["y"], code.mul(row, p["sy"]))
        addend = code.select(p["acc"], y, nothing)
        sums = [[total] for total in _dots(code, p, rows, whole)]
        store_rows(code, sums, (y, p["sy"]), (addend, stride), count, None)
    code.ret_void()
    return code.function


def _dots(code: Code, p: Parameters, rows: list[ir.Value], whole: ir.Value) -> list[ir.Value]:
    """Whole vectors, then the rest of each row: by one masked vector, or by elements."""
    context = code.context

    def step(q: ir.Value, held: list[ir.Value], mask: ir.Value | None = None) -> list[ir.Value]:
        def get(base: ir.Value) -> ir.Value:
            return code.get_kind(code.at(base, q), held[0].type, mask)

        x = get(p["x"])
        return [code.multiply_add(get(row), x, total) for row, total in zip(rows, held, strict=True)]

    sums = [code.zeros(context.vector)] * len(rows)
    sums = _carried_range(code, i64(0), whole, context.tile.lanes, sums, step)
    if context.masks:
        sums = step(whole, sums, code.lane_mask(code.sub(p["k"], whole)))
        return [code.sum_lanes(total) for total in sums]
    return _carried_range(code, whole, p["k"], 1, [code.sum_lanes(total) for total in sums], step)


def _carried_range(
    code: Code,
    start: ir.Value,
    stop: ir.Value,
    step: int,
    initial: list[ir.Value],
    body: Callable[[ir.Value, list[ir.Value]], list[ir.Value]],
) -> list[ir.Value]:
    """``held = body(q, held)`` for q in ``range(start, stop, step)``, which may be empty and has whole steps."""
    before = code.block
    run, after = code.append_basic_block("run"), code.append_basic_block("join")
    code.cbranch(code.icmp_signed("<", start, stop), run, after)
    code.position_at_end(run)
    loop = CarriedLoop(code, stop, initial, start, step)
    final = loop.close(body(loop.index, loop.values))
    ended = code.block
    code.branch(after)
    code.position_at_end(after)
    joined = [code.phi(value.type) for value in final]
    for phi, value, other in zip(joined, final, initial, strict=True):
        phi.add_incoming(value, ended)
        phi.add_incoming(other, before)
    return joined


def emit_by_columns(context: Context, copy_out: ir.Function) -> ir.Function:
    """``y = A x`` or ``y += A x`` for contiguous columns of A, a multiple of ``COLUMNS``.

    Parameters ``m k a csa x sx y sy acc ws``. Runs over chunks of y that stay in cache; a strided y is made in
    ``ws``, ``min(m, VECTOR_CHUNK)`` elements.
    """
    code, p = context.function("by_columns", "m:i k:i a:p csa:i x:p sx:i y:p sy:i acc:b ws:p")
    one = i64(1)
    direct = code.icmp_signed("==", p["sy"], one)
    with code.loop(i64(0), p["m"], i64(VECTOR_CHUNK)) as row:
        count = code.least(code.sub(p["m"], row), i64(VECTOR_CHUNK))
        y = code.at(p["y"], code.mul(row, p["sy"]))
        target, acc = code.select(direct, y, p["ws"]), code.and_(direct, p["acc"])
        with code.loop(i64(0), p["k"], i64(COLUMNS)) as q:
            reads = code.or_(acc, code.icmp_signed(">", q, i64(0)))
            column = code.at(p["a"], row, code.mul(q, p["csa"]))
            _add_columns(code, p, count, column, code.at(p["x"], code.mul(q, p["sx"])), target, reads)
        with code.if_then(code.not_(direct)):
            code.invoke(copy_out, count, one, p["ws"], one, y, p["sy"], one, p["acc"])
    code.ret_void()
    return code.function


def _add_columns(
    code: Code, p: Parameters, count: ir.Value, column: ir.Value, x: ir.Value, y: ir.Value, reads: ir.Value
) -> None:
    """Add ``COLUMNS`` columns times elements of x to y, or replace y where it is not to be read."""
    context = code.context
    columns, scalars = [column], [code.get(x)]
    for _ in range(1, COLUMNS):
        columns.append(code.at(columns[-1], p["csa"]))
        x = code.at(x, p["sx"])
        scalars.append(code.get(x))
    splats = [code.splat(scalar) for scalar in scalars]

    def add(i: ir.Value, factors: list[ir.Value], mask: ir.Value | None = None) -> None:
        kind, target = factors[0].type, code.at(y, i)
        # Plain stores where whole vectors go: a later load cannot be forwarded from a masked one.
        total = code.select(reads, code.get_kind(target, kind, mask), code.zeros(kind))
        for source, factor in zip(columns, factors, strict=True):
            total = code.multiply_add(code.get_kind(code.at(source, i), kind, mask), factor, total)
        code.put(total, target, mask)

    lanes = context.tile.lanes
    whole = code.and_(count, i64(-lanes))
    with code.loop(i64(0), whole, i64(lanes)) as i:
        add(i, splats)
    if context.masks:
        with code.if_then(code.icmp_signed("<", whole, count)):
            add(whole, splats, code.lane_mask(code.sub(count, whole)))
    else:
        with code.loop(whole, count, i64(1)) as i:
            add(i, scalars)
