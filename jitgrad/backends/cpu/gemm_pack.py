"""Packing for the matrix product: blocks of A and B copied into contiguous, padded panels."""

from __future__ import annotations

from llvmlite import ir

from jitgrad.backends.cpu.gemm_loops import I64, Code, Context, i64

Parameters = dict[str, ir.Value]

BLOCK = 4
"""Side of the square blocks by which a transposed B is packed: four short vectors, eight shuffles."""


def emit_pack_b(context: Context) -> ir.Function:
    """Pack ``k x n`` of B into a panel of w columns: ``dst[q*w + j] = B[q, j]``, filler for ``n <= j < w``.

    Parameters ``k n w b rsb csb dst``. Rows are copied by vectors where they are contiguous, transposed by
    blocks where columns are; what is left is copied one by one.
    """
    code, p = context.function("pack_b", "k:i n:i w:i b:p rsb:i csb:i dst:p")
    one, zero = i64(1), i64(0)
    rows, columns, rest = (code.append_basic_block(part) for part in ("rows", "columns", "rest"))
    maybe_columns = code.append_basic_block("maybe_columns")
    code.cbranch(code.icmp_signed("==", p["csb"], one), rows, maybe_columns)
    done = []
    code.position_at_end(rows)
    done.append((p["k"], _copy_rows(code, p), code.block))
    code.branch(rest)
    code.position_at_end(maybe_columns)
    done.append((zero, zero, code.block))
    code.cbranch(code.icmp_signed("==", p["rsb"], one), columns, rest)
    code.position_at_end(columns)
    depth, width = code.and_(p["k"], i64(-BLOCK)), code.and_(p["n"], i64(-BLOCK))
    with code.loop(zero, width, i64(BLOCK)) as j, code.loop(zero, depth, i64(BLOCK)) as q:
        _transpose_block(code, p, q, j)
    done.append((depth, width, code.block))
    code.branch(rest)
    code.position_at_end(rest)
    depth, width = code.phi(I64), code.phi(I64)
    for depth_done, width_done, block in done:
        depth.add_incoming(depth_done, block)
        width.add_incoming(width_done, block)
    _copy_rest(code, p, depth, width)
    code.ret_void()
    return code.function


def _copy_rows(code: Code, p: Parameters) -> ir.Value:
    """Copy whole rows; returns the first column left to do: none where masks did the ragged end as well."""
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
    return columns


def _transpose_block(code: Code, p: Parameters, q: ir.Value, j: ir.Value) -> None:
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


def _copy_rest(code: Code, p: Parameters, depth: ir.Value, width: ir.Value) -> None:
    """Copy one by one all but the first ``depth`` rows' first ``width`` columns.

    Columns that do not exist repeat the last one; their products are not stored.
    """
    one, end = i64(1), code.sub(p["n"], i64(1))
    with code.loop(i64(0), p["k"], one) as q:
        source = code.at(p["b"], code.mul(q, p["rsb"]))
        target = code.at(p["dst"], code.mul(q, p["w"]))
        first = code.select(code.icmp_signed("<", q, depth), width, i64(0))
        with code.loop(first, p["w"], one) as j:
            value = code.get(code.at(source, code.mul(code.least(j, end), p["csb"])))
            code.put(value, code.at(target, j))


def pack_a(code: Code, p: Parameters, pack_b: ir.Function) -> None:
    """Pack ``m x k`` of A into groups of ``mr`` rows: ``dst[g*mr*k + q*mr + i] = A[g*mr + i, q]``.

    Whole groups are copied by vectors where columns are contiguous; the rest is packed as panels of the
    transpose.
    """
    context = code.context
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
