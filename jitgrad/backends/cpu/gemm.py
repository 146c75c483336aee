"""The matrix product C = A B of float32 or float64 matrices, emitted as LLVM IR without outside symbols.

Goto's loops around a register-tile micro-kernel: ``gemm_micro``; packing, where an operand cannot be read in
place: ``gemm_pack``; one row or one column: ``gemm_vector``; sizes: ``gemm_tile``.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from jitgrad.backends.cpu.gemm_loops import I1, I64, PTR, Code, Context, i64
from jitgrad.backends.cpu.gemm_micro import emit_copy_out, emit_kernels, emit_negative_zeros
from jitgrad.backends.cpu.gemm_pack import emit_pack_b, pack_a
from jitgrad.backends.cpu.gemm_tile import Tile, choose_tile, workspace_elements
from jitgrad.backends.cpu.gemm_vector import emit_matrix_vector

__all__ = ["Tile", "choose_tile", "emit_gemm", "workspace_elements"]

NAMES = ["m", "n", "k", "a", "rsa", "csa", "b", "rsb", "csb", "c", "rsc", "csc", "acc", "ws"]
TYPES = [I64, I64, I64, PTR, I64, I64, PTR, I64, I64, PTR, I64, I64, I1, PTR]
PARAMETERS = " ".join(
    f"{name}:{'p' if kind is PTR else 'b' if kind is I1 else 'i'}"
    for name, kind in zip(NAMES, TYPES, strict=True)
)

Parameters = dict[str, ir.Value]


def emit_gemm(module: ir.Module, dtype: np.dtype, tile: Tile, name: str) -> ir.Function:
    """Emit ``void name(M, N, K, A, rsA, csA, B, rsB, csB, C, rsC, csC, accumulate, workspace)``.

    Computes ``C = A @ B``, or ``C += A @ B``, for A of M x K, B of K x N, C of M x N elements of ``dtype``.
    Extents and strides are i64, strides count elements and may have any sign; ``accumulate`` is an i1; the
    pointers are opaque. Without ``accumulate`` what C holds has no influence. ``workspace`` is aligned to 64
    bytes and has room for ``workspace_elements(dtype, tile, M, N, K)`` elements; it is the only scratch, so
    the function is re-entrant. C must overlap neither an operand nor the workspace.

    Each sum runs in a fixed order: by k, in blocks of ``tile.kc``. So a product split over rows or columns
    has the bits of the whole one, unless a part has a single row or column: those have their own order.

    >>> tile = Tile(mr=4, nr=12, mc=120, kc=256, nc=960, lanes=4)
    >>> print(emit_gemm(ir.Module(), np.dtype("float64"), tile, "product").name)
    product
    """
    context = Context(module, np.dtype(dtype), tile, name)
    copy_out = emit_copy_out(context)
    nothing = emit_negative_zeros(context)
    blocks = _emit_blocks(context, nothing, copy_out)
    vector = emit_matrix_vector(context, nothing, copy_out, blocks)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), TYPES), name)
    function.attributes.add("nounwind")
    code, p = context.body(function, NAMES)
    one, zero = i64(1), i64(0)
    empty = code.or_(code.icmp_signed("<=", p["m"], zero), code.icmp_signed("<=", p["n"], zero))
    with code.if_then(empty):
        code.ret_void()
    with code.if_then(code.icmp_signed("<=", p["k"], zero)):
        with code.if_then(code.not_(p["acc"])):
            _zero(code, p)
        code.ret_void()
    for extent, row, column, order in (
        ("n", "rsa", "csa", "m k a rsa csa b rsb c rsc acc ws"),
        ("m", "csb", "rsb", "n k b csb rsb a csa c csc acc ws"),
    ):
        unit = code.or_(code.icmp_signed("==", p[row], one), code.icmp_signed("==", p[column], one))
        with code.if_then(code.and_(code.icmp_signed("==", p[extent], one), unit)):
            code.invoke(vector, *_pick(p, order))
            code.ret_void()
    transposed = code.and_(code.icmp_signed("==", p["rsc"], one), code.icmp_signed("!=", p["csc"], one))
    with code.if_then(transposed):
        code.invoke(blocks, *_pick(p, "n m k b csb rsb a csa rsa c csc rsc acc ws"))
        code.ret_void()
    code.invoke(blocks, *_pick(p, " ".join(NAMES)))
    code.ret_void()
    return function


def _pick(p: Parameters, names: str) -> list[ir.Value]:
    return [p[name] for name in names.split()]


def _zero(code: Code, p: Parameters) -> None:
    """C = 0, at any strides."""
    with code.loop(i64(0), p["m"], i64(1)) as row, code.loop(i64(0), p["n"], i64(1)) as column:
        target = code.at(p["c"], code.mul(row, p["rsc"]), code.mul(column, p["csc"]))
        code.put(code.zeros(code.context.element), target)


def _emit_blocks(context: Context, nothing: ir.Value, copy_out: ir.Function) -> ir.Function:
    """The loops over blocks of columns (nc), depth (kc) and rows (mc), around the panels of each block."""
    kernels = emit_kernels(context, nothing)
    pack_b = emit_pack_b(context)
    code, p = context.function("blocks", PARAMETERS)
    tile, zero = context.tile, i64(0)
    packs_a, packs_b = _what_to_pack(code, p)
    rows_max = code.least(_rounded_up(code, p["m"], tile.mr), i64(tile.mc))
    columns_max = code.least(_rounded_up(code, p["n"], tile.lanes), i64(tile.nc))
    packed_b = code.at(p["ws"], code.mul(rows_max, i64(tile.nr)))
    packed_a = code.at(packed_b, code.mul(code.least(p["k"], i64(tile.kc)), columns_max))
    with (
        code.loop(zero, p["n"], i64(tile.nc)) as jc,
        code.loop(zero, p["k"], i64(tile.kc)) as pc,
        code.loop(zero, p["m"], i64(tile.mc)) as ic,
    ):
        rows = code.least(code.sub(p["m"], ic), i64(tile.mc))
        depth = code.least(code.sub(p["k"], pc), i64(tile.kc))
        a = code.at(p["a"], code.mul(ic, p["rsa"]), code.mul(pc, p["csa"]))
        with code.if_then(packs_a):
            pack_a(code, {**p, "m": rows, "k": depth, "a": a, "dst": packed_a}, pack_b)
        block = {
            **p,
            "m": rows,
            "k": depth,
            "n": code.least(code.sub(p["n"], jc), i64(tile.nc)),
            "a": code.select(packs_a, packed_a, a),
            "rsa": code.select(packs_a, i64(1), p["rsa"]),
            "csa": code.select(packs_a, i64(tile.mr), p["csa"]),
            "step": code.mul(i64(tile.mr), code.select(packs_a, depth, p["rsa"])),
            "b": code.at(p["b"], code.mul(pc, p["rsb"]), code.mul(jc, p["csb"])),
            "c": code.at(p["c"], code.mul(ic, p["rsc"]), code.mul(jc, p["csc"])),
            "acc": code.or_(p["acc"], code.icmp_signed(">", pc, zero)),
            "packs": packs_b,
            "fresh": code.icmp_signed("==", ic, zero),
            "packed": packed_b,
        }
        _multiply_panels(code, block, kernels, pack_b, copy_out)
    code.ret_void()
    return code.function


def _rounded_up(code: Code, value: ir.Value, multiple: int) -> ir.Value:
    return code.and_(code.add(value, i64(multiple - 1)), i64(-multiple))


def _what_to_pack(code: Code, p: Parameters) -> tuple[ir.Value, ir.Value]:
    """Whether blocks of A, and of B, are packed before use."""
    tile = code.context.tile
    many_columns = code.icmp_signed(">", p["n"], i64(2 * tile.nr))
    packs_a = code.and_(code.icmp_signed("!=", p["csa"], i64(1)), many_columns)
    many_rows = code.icmp_signed(">=", p["m"], i64(12 * tile.mr))
    packs_b = code.or_(code.icmp_signed("!=", p["csb"], i64(1)), many_rows)
    return packs_a, packs_b


def _multiply_panels(
    code: Code, p: Parameters, kernels: list[ir.Function], pack_b: ir.Function, copy_out: ir.Function
) -> None:
    """One block of A times the panels of one block of B; packs a panel just before its first use.

    A panel of C that the kernels cannot write (no unit stride, or a ragged vector without masks) is made in
    the workspace first.
    """
    context = code.context
    tile = context.tile
    with code.open_loop(i64(0), p["n"]) as (column, advance):
        rest = code.sub(p["n"], column)
        vectors = code.udiv(code.add(rest, i64(tile.lanes - 1)), i64(tile.lanes))
        width = _panel_width(code, vectors, len(kernels))
        padded = code.mul(width, i64(tile.lanes))
        n = code.least(rest, padded)
        ragged = code.icmp_signed("<", n, padded)
        source = code.at(p["b"], code.mul(column, p["csb"]))
        panel = code.at(p["packed"], code.mul(column, p["k"]))
        packs = p["packs"] if context.masks_are_free else code.or_(p["packs"], ragged)
        with code.if_then(code.and_(packs, p["fresh"])):
            code.invoke(pack_b, p["k"], n, padded, source, p["rsb"], p["csb"], panel)
        c = code.at(p["c"], code.mul(column, p["csc"]))
        detour = code.icmp_signed("!=", p["csc"], i64(1))
        if not context.masks:
            detour = code.or_(detour, ragged)
        operands = [
            *_pick(p, "m k a rsa csa step"),
            code.select(packs, panel, source),
            code.select(packs, padded, p["rsb"]),
            code.select(detour, p["ws"], c),
            code.select(detour, i64(tile.nr), p["rsc"]),
            n,
            code.and_(p["acc"], code.not_(detour)),
        ]
        _choose_kernel(code, width, kernels, operands)
        with code.if_then(detour):
            code.invoke(copy_out, p["m"], n, p["ws"], i64(tile.nr), c, p["rsc"], p["csc"], p["acc"])
        advance(padded)


def _panel_width(code: Code, vectors: ir.Value, widest: int) -> ir.Value:
    """Width in vectors of the next panel: the widest, but 4 = 2 + 2, as a lone vector keeps few sums busy."""
    width = code.least(vectors, i64(widest))
    return code.select(code.icmp_signed("==", vectors, i64(widest + 1)), i64((widest + 1) // 2), width)


def _choose_kernel(code: Code, width: ir.Value, kernels: list[ir.Function], operands: list[ir.Value]) -> None:
    joined = code.append_basic_block("joined")
    cases = [code.append_basic_block("width") for _ in kernels]
    switch = code.switch(width, cases[-1])
    for i, (case, kernel) in enumerate(zip(cases, kernels, strict=True)):
        if case is not cases[-1]:
            switch.add_case(i64(i + 1), case)
        code.position_at_end(case)
        code.invoke(kernel, *operands)
        code.branch(joined)
    code.position_at_end(joined)
