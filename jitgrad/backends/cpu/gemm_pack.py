"""Packing for the matrix product: blocks of A and B copied into contiguous, zero-padded panels."""

from __future__ import annotations

from llvmlite import ir

from jitgrad.backends.cpu.gemm_loops import Code, Context, i64

BLOCK = 4
"""Side of the square blocks by which a transposed B is packed: four short vectors, eight shuffles."""


def emit_pack_b(context: Context, copy_rest_: ir.Function) -> ir.Function:
    """Pack ``k x n`` of B into one panel of ``w`` columns: ``dst[p*w + j] = B[p, j]``, zero for ``n <= j < w``.

    Parameters ``k n w b rsb csb dst``. Rows are copied by vectors where they are contiguous, transposed by
    blocks where columns are, and copied one by one otherwise.
    """
    code, p = context.function("pack_b", "k:i n:i w:i b:p rsb:i csb:i dst:p")
    zero = i64(0)

    def copy_rest(first_row: ir.Value, first_column: ir.Value, stop_column: ir.Value) -> None:
        code.invoke(
            copy_rest_, first_row, p["k"], first_column, stop_column,
            p["n"], p["b"], p["rsb"], p["csb"], p["dst"], p["w"],
        )

    with code.if_else(code.icmp_signed("==", p["csb"], i64(1))) as (contiguous, strided):
        with contiguous:
            full = _copy_rows(code, p)
            if full is not None:
                copy_rest(zero, full, p["w"])
        with strided, code.if_else(code.icmp_signed("==", p["rsb"], i64(1))) as (transposed, general):
            with transposed:
                depth, columns = code.and_(p["k"], i64(-BLOCK)), code.and_(p["n"], i64(-BLOCK))
                with code.loop(zero, columns, i64(BLOCK)) as j, code.loop(zero, depth, i64(BLOCK)) as q:
                    _transpose_block(code, p, q, j)
                copy_rest(zero, columns, p["w"])
                copy_rest(depth, zero, columns)
            with general:
                copy_rest(zero, zero, p["w"])
    code.ret_void()
    return code.function


def _copy_rows(code: Code, p: dict[str, ir.Value]) -> ir.Value | None:
    """Copy whole rows; returns the first column left to do, None where masks did the ragged end as well."""
    lanes = code.context.tile.lanes
    masked = code.context.masks_are_free
    columns = p["w"] if masked else code.and_(p["n"], i64(-lanes))
    with code.loop(i64(0), p["k"], i64(1)) as q:
        source = code.at(p["b"], code.mul(q, p["rsb"]))
        target = code.at(p["dst"], code.mul(q, p["w"]))
        with code.loop(i64(0), columns, i64(lanes)) as j:
            mask = code.lane_mask(code.sub(p["n"], j)) if masked else None
            room = code.lane_mask(code.sub(p["w"], j)) if masked else None
            code.put(code.get_kind(code.at(source, j), code.context.vector, mask), code.at(target, j), room)
    return None if masked else columns


def _transpose_block(code: Code, p: dict[str, ir.Value], q: ir.Value, j: ir.Value) -> None:
    """Pack the 4 x 4 block at row q, column j of a B whose columns are contiguous.

    Two rounds: pairs of columns are interleaved, then pairs of pairs.
    """
    first = code.at(p["b"], q, code.mul(j, p["csb"]))
    columns = [first]
    for _ in range(BLOCK - 1):
        columns.append(code.at(columns[-1], p["csb"]))
    c0, c1, c2, c3 = (code.get_kind(column, ir.VectorType(code.context.element, BLOCK)) for column in columns)

    def shuffle(x: ir.Value, y: ir.Value, *picks: int) -> ir.Value:
        return code.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), list(picks)))

    low01, low23 = shuffle(c0, c1, 0, 4, 2, 6), shuffle(c2, c3, 0, 4, 2, 6)
    high01, high23 = shuffle(c0, c1, 1, 5, 3, 7), shuffle(c2, c3, 1, 5, 3, 7)
    rows = (
        shuffle(low01, low23, 0, 1, 4, 5),
        shuffle(high01, high23, 0, 1, 4, 5),
        shuffle(low01, low23, 2, 3, 6, 7),
        shuffle(high01, high23, 2, 3, 6, 7),
    )
    target = code.at(p["dst"], code.add(code.mul(q, p["w"]), j))
    for row in rows:
        code.put(row, target)
        target = code.at(target, p["w"])


def emit_pack_a(context: Context, pack_b: ir.Function) -> ir.Function:
    """Pack ``m x k`` of A into groups of ``mr`` rows: ``dst[g*mr*k + q*mr + i] = A[g*mr + i, q]``.

    Parameters ``m k a rsa csa dst``. Whole groups are copied by vectors where columns are contiguous; the rest is
    packed as panels of the transpose.
    """
    code, p = context.function("pack_a", "m:i k:i a:p rsa:i csa:i dst:p")
    rows, zero = i64(context.tile.mr), i64(0)
    unit = code.icmp_signed("==", p["rsa"], i64(1))
    with code.loop(zero, p["m"], rows) as row:
        source = code.at(p["a"], code.mul(row, p["rsa"]))
        target = code.at(p["dst"], code.mul(row, p["k"]))
        here = code.least(rows, code.sub(p["m"], row))
        with code.if_else(code.and_(unit, code.icmp_signed("==", here, rows))) as (contiguous, general):
            with contiguous, code.loop(zero, p["k"], i64(1)) as q:
                group = ir.VectorType(context.element, context.tile.mr)
                column = code.get_kind(code.at(source, code.mul(q, p["csa"])), group)
                code.put(column, code.at(target, code.mul(q, rows)))
            with general:
                code.invoke(pack_b, p["k"], here, rows, source, p["csa"], p["rsa"], target)
    code.ret_void()
    return code.function


def emit_copy_rest(context: Context) -> ir.Function:
    """``dst[q*ld + j] = B[q, j] if j < n else 0`` for ``q0 <= q < q1`` and ``j0 <= j < j1``, one by one."""
    code, p = context.function("copy_rest", "q0:i q1:i j0:i j1:i n:i b:p rsb:i csb:i dst:p ld:i")
    one, end = i64(1), code.sub(p["n"], i64(1))
    with code.loop(p["q0"], p["q1"], one) as q:
        source = code.at(p["b"], code.mul(q, p["rsb"]))
        target = code.at(p["dst"], code.mul(q, p["ld"]))
        with code.loop(p["j0"], p["j1"], one) as j:
            value = code.get(code.at(source, code.mul(code.least(j, end), p["csb"])))
            kept = code.select(code.icmp_signed("<=", j, end), value, code.zeros(context.element))
            code.put(kept, code.at(target, j))
    code.ret_void()
    return code.function
