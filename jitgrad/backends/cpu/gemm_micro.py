"""Micro-kernels of the matrix product: a tile of C in registers, one rank-one update per step of k.

The loops around them follow Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (ACM
TOMS 34, 2008). A kernel takes one panel of B (``nr`` columns or fewer) and walks down all rows of the block.
A is read by broadcasts at any strides, so it needs no packing for correctness.
"""

from __future__ import annotations

from llvmlite import ir

from jitgrad.backends.cpu.gemm_loops import CarriedLoop, Code, Context, i64

PANEL = "m:i k:i a:p rsa:i csa:i step:i b:p ldb:i c:p rsc:i n:i acc:b"

DEEP = 64
"""Steps of k from which on C is prefetched."""

Parameters = dict[str, ir.Value]


def emit_kernels(context: Context, nothing: ir.Value) -> list[ir.Function]:
    """Emit the panel kernels, by their width of 1, 2, ... ``nr/lanes`` vectors. Parameters: see ``PANEL``.

    ``step`` is the distance in elements from one group of ``mr`` rows of A to the next; C has unit column
    stride.
    Of the ``n`` columns that exist the last vector may lack some; where the target does not mask, it must be
    readable in B and writable in C as a whole. ``nothing`` holds -0.0, see ``emit_negative_zeros``.
    """
    tile = context.tile
    widest = tile.nr // tile.lanes
    # Narrow kernels are bound by the latency of their sums, so fewer rows would gain little there.
    edge = _emit_panel_kernel(context, tile.mr // 2, widest, nothing, None)
    narrow = [_emit_panel_kernel(context, tile.mr, width, nothing, None) for width in range(1, widest)]
    return [*narrow, _emit_panel_kernel(context, tile.mr, widest, nothing, edge)]


def emit_negative_zeros(context: Context) -> ir.GlobalVariable:
    """A row of -0.0: what a product that does not accumulate adds instead of C. x + -0.0 is x for every x."""
    kind = ir.ArrayType(context.element, context.tile.nr)
    zeros = ir.GlobalVariable(context.module, kind, f"{context.name}.negative_zeros")
    zeros.linkage, zeros.global_constant = "internal", True
    zeros.initializer = ir.Constant(kind, [-0.0] * context.tile.nr)
    return zeros


def _emit_panel_kernel(
    context: Context, rows: int, width: int, nothing: ir.Value, edge: ir.Function | None
) -> ir.Function:
    """A kernel of ``rows x width`` vectors. Where at most half of its rows remain, ``edge`` takes them."""
    code, p = context.function(f"kernel{rows}x{width}", PANEL)
    function = code.function
    mask = None
    if context.masks:
        mask = code.lane_mask(code.sub(p["n"], i64((width - 1) * context.tile.lanes)))
    ours = p["m"] if edge is None else _rows_without_small_rest(code, p["m"], rows)
    stride = code.select(p["acc"], p["rsc"], i64(0))
    with code.loop(i64(0), ours, i64(rows)) as row:
        count = code.sub(p["m"], row)
        group = code.at(p["a"], code.mul(code.udiv(row, i64(rows)), p["step"]))
        target = code.at(p["c"], code.mul(row, p["rsc"]))
        if edge is not None:
            _prefetch_rows(code, p, target, code.least(i64(rows), count), width)
        sums = _rank_one_updates(code, p, group, count, rows, width, mask)
        addend = code.select(p["acc"], target, nothing)
        store_rows(code, sums, (target, p["rsc"]), (addend, stride), count, mask)
    if edge is not None:
        with code.if_then(code.icmp_signed("<", ours, p["m"])):
            group = code.at(p["a"], code.mul(code.udiv(ours, i64(rows)), p["step"]))
            target = code.at(p["c"], code.mul(ours, p["rsc"]))
            rest = {**p, "m": code.sub(p["m"], ours), "a": group, "c": target}
            code.invoke(edge, *rest.values())
    code.ret_void()
    return function


def _rows_without_small_rest(code: Code, m: ir.Value, rows: int) -> ir.Value:
    """m, less its remainder by ``rows`` where that is at most half of ``rows``."""
    rest = code.and_(m, i64(rows - 1))
    return code.select(code.icmp_signed("<=", rest, i64(rows // 2)), code.sub(m, rest), m)


def _rank_one_updates(
    code: Code, p: Parameters, group: ir.Value, count: ir.Value, rows: int, width: int, mask: ir.Value | None
) -> list[list[ir.Value]]:
    """The sums over k of A[i, k] * B[k, :] for the rows of one group, as vectors.

    Rows that do not exist repeat the last one: nothing outside A is read, and their sums are not stored.
    """
    lanes = code.context.tile.lanes
    end = code.sub(count, i64(1))
    offsets = [i64(0), *(code.mul(code.least(i64(i), end), p["rsa"]) for i in range(1, rows))]
    zero = code.zeros(code.context.vector)
    loop = CarriedLoop(code, p["k"], [group, p["b"], *[zero] * (rows * width)])
    a, b, *flat = loop.values
    read_mask = mask if code.context.masks_are_free else None
    kind = code.context.vector
    columns = [
        code.get_kind(code.at(b, j * lanes), kind, read_mask if j == width - 1 else None)
        for j in range(width)
    ]
    following = []
    for i, offset in enumerate(offsets):
        x = code.splat(code.get(code.at(a, offset) if i else a))
        following += [code.multiply_add(x, columns[j], flat[i * width + j]) for j in range(width)]
    final = loop.close([code.at(a, p["csa"]), code.at(b, p["ldb"]), *following])[2:]
    return [final[i * width : (i + 1) * width] for i in range(rows)]


def _prefetch_rows(code: Code, p: Parameters, target: ir.Value, count: ir.Value, width: int) -> None:
    """Ask for the tile of C while its sums are made, if there is time for that."""
    lanes = code.context.tile.lanes
    with (
        code.if_then(code.icmp_signed(">", p["k"], i64(DEEP))),
        code.loop(i64(0), count, i64(1)) as i,
    ):
        row = code.at(target, code.mul(i, p["rsc"]))
        for j in range(width):
            code.prefetch(code.at(row, j * lanes))


def store_rows(
    code: Code,
    sums: list[list[ir.Value]],
    target: tuple[ir.Value, ir.Value],
    addend: tuple[ir.Value, ir.Value],
    count: ir.Value,
    mask: ir.Value | None,
) -> None:
    """Write the first ``count`` rows of vectors or elements plus the addend; both are (address, stride)."""
    lanes = code.context.tile.lanes
    (to, to_stride), (plus, plus_stride) = target, addend
    done = code.append_basic_block("stored")
    for i, line in enumerate(sums):
        if i:
            here = code.append_basic_block("row")
            code.cbranch(code.icmp_signed("<", i64(i), count), here, done)
            code.position_at_end(here)
            to, plus = code.at(to, to_stride), code.at(plus, plus_stride)
        for j, vector in enumerate(line):
            lane_mask = mask if j == len(line) - 1 else None
            before = code.get_kind(code.at(plus, j * lanes), vector.type, lane_mask)
            code.put(code.fadd(vector, before), code.at(to, j * lanes), lane_mask)
    code.branch(done)
    code.position_at_end(done)


def emit_copy_out(context: Context) -> ir.Function:
    """Copy ``m x n`` elements from s (strides rss, 1) to c at any strides, or add them there.

    Parameters ``m n s rss c rsc csc acc``.
    """
    code, p = context.function("copy_out", "m:i n:i s:p rss:i c:p rsc:i csc:i acc:b")
    one = i64(1)
    with code.loop(i64(0), p["m"], one) as row, code.loop(i64(0), p["n"], one) as column:
        value = code.get(code.at(p["s"], code.mul(row, p["rss"]), column))
        target = code.at(p["c"], code.mul(row, p["rsc"]), code.mul(column, p["csc"]))
        with code.if_else(p["acc"]) as (then, otherwise):
            with then:
                code.put(code.fadd(code.get(target), value), target)
            with otherwise:
                code.put(value, target)
    code.ret_void()
    return code.function
