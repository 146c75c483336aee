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
"""Columns that share one load and store of y."""

Parameters = dict[str, ir.Value]


def emit_matrix_vector(
    context: Context, nothing: ir.Value, copy_out: ir.Function, blocks: ir.Function
) -> ir.Function:
    """``y = A x`` or ``y += A x`` for an A with a unit stride. Parameters ``m k a rsa csa x sx y sy acc ws``.

    ``ws`` has room for ``min(max(m, k), VECTOR_CHUNK)`` elements, and for what ``blocks`` needs.
    """
    code, p = context.function("matrix_vector", "m:i k:i a:p rsa:i csa:i x:p sx:i y:p sy:i acc:b ws:p")
    with code.if_then(code.icmp_signed("==", p["csa"], i64(1))):
        _multiply_by_rows(code, p, nothing, copy_out)
        code.ret_void()
    whole = code.and_(p["k"], i64(-COLUMNS))
    with code.if_then(code.icmp_signed(">", whole, i64(0))):
        _multiply_by_columns(code, {**p, "k": whole}, copy_out)
    rest = code.sub(p["k"], whole)
    with code.if_then(code.icmp_signed(">", rest, i64(0))):
        one = i64(1)
        x, a = code.at(p["x"], code.mul(whole, p["sx"])), code.at(p["a"], code.mul(whole, p["csa"]))
        acc = code.or_(p["acc"], code.icmp_signed(">", whole, i64(0)))
        # y' = x' A': one row, the columns of A being rows of the second operand.
        operands = (x, one, p["sx"], a, p["csa"], one, p["y"], one, p["sy"])
        code.invoke(blocks, one, p["m"], rest, *operands, acc, p["ws"])
    code.ret_void()
    return code.function


def _multiply_by_rows(code: Code, p: Parameters, nothing: ir.Value, copy_out: ir.Function) -> None:
    """Dot products of contiguous rows over chunks of k; a strided x is gathered into the workspace first."""
    one = i64(1)
    with code.loop(i64(0), p["k"], i64(VECTOR_CHUNK)) as q:
        count = code.least(code.sub(p["k"], q), i64(VECTOR_CHUNK))
        x = code.at(p["x"], code.mul(q, p["sx"]))
        strided = code.icmp_signed("!=", p["sx"], one)
        with code.if_then(strided):
            code.invoke(copy_out, count, one, x, p["sx"], p["ws"], one, one, ir.Constant(I1, 0))
        chunk = {
            **p,
            "k": count,
            "a": code.at(p["a"], q),
            "x": code.select(strided, p["ws"], x),
            "acc": code.or_(p["acc"], code.icmp_signed(">", q, i64(0))),
        }
        _dot_rows(code, chunk, nothing)


def _dot_rows(code: Code, p: Parameters, nothing: ir.Value) -> None:
    """``y[i] = sum_q A[i, q] x[q]`` by groups of rows; rows that do not exist repeat the last one."""
    stride = code.select(p["acc"], p["sy"], i64(0))
    whole = code.and_(p["k"], i64(-code.context.tile.lanes))
    with code.loop(i64(0), p["m"], i64(ROWS)) as row:
        count = code.sub(p["m"], row)
        end = code.sub(count, i64(1))
        rows = [code.at(p["a"], code.mul(row, p["rsa"]))]
        rows += [code.at(rows[0], code.mul(code.least(i64(i), end), p["rsa"])) for i in range(1, ROWS)]
        y = code.at(p["y"], code.mul(row, p["sy"]))
        addend = code.select(p["acc"], y, nothing)
        sums = [[total] for total in _dots(code, p, rows, whole)]
        store_rows(code, sums, (y, p["sy"]), (addend, stride), count, None)


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
    """``held = body(q, held)`` for q in ``range(start, stop, step)``, possibly empty, of whole steps."""
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


def _multiply_by_columns(code: Code, p: Parameters, copy_out: ir.Function) -> None:
    """Contiguous columns, a multiple of ``COLUMNS``, over chunks of y that stay in cache.

    A strided y is made in the workspace.
    """
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
