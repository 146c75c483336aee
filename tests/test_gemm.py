"""The matrix product in LLVM IR: every path, stride, edge and promise of its contract."""

from __future__ import annotations

import ctypes
import mmap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from llvmlite import binding as llvm
from llvmlite import ir

from jitgrad.backends.cpu.gemm import Tile, choose_tile, emit_gemm, workspace_elements

DTYPES = [np.dtype("float64"), np.dtype("float32")]
LAYOUTS = ["C", "F", "strided", "reversed", "reversed-F", "broadcast"]
GUARD = 64
"""Elements of sentinel on either side of every buffer."""


@dataclass(frozen=True)
class Product:
    """A compiled product; ``run`` calls it on arrays."""

    call: object
    dtype: np.dtype
    tile: Tile

    def run(self, a: np.ndarray, b: np.ndarray, c: np.ndarray, accumulate: bool = False) -> None:
        """C = A B or C += A B, with a workspace that is checked to be used within its bounds only."""
        (m, k), n, size = a.shape, b.shape[1], self.dtype.itemsize
        count = workspace_elements(self.dtype, self.tile, m, n, k)
        buffer = np.full(count + 2 * GUARD + 64, 7.0, self.dtype)
        start = GUARD + (-(buffer.ctypes.data + GUARD * size) % 64) // size
        buffer[start : start + count] = np.nan
        strides = [[step // size for step in array.strides] for array in (a, b, c)]
        arguments = zip((a.ctypes.data, b.ctypes.data, c.ctypes.data), strides, strict=True)
        flat = [value for address, pair in arguments for value in (address, *pair)]
        self.call(m, n, k, *flat, accumulate, buffer[start:].ctypes.data)
        assert (buffer[:start] == 7).all() and (buffer[start + count :] == 7).all(), "workspace overrun"


@pytest.fixture(scope="module")
def products() -> dict[str, Product]:
    """One module: the products of every register width and dtype, on small blocks and on the real ones."""
    tiles = {}
    for dtype in DTYPES:
        for bits in (128, 256, 512):
            tile = choose_tile(dtype, SimpleNamespace(vector_bits=bits))
            tiles[f"{dtype}_{bits}"] = dtype, replace(tile, mc=2 * tile.mr, kc=10, nc=2 * tile.nr)
        tiles[f"{dtype}_real"] = dtype, choose_tile(dtype, SimpleNamespace(vector_bits=_host_bits()))
    module = ir.Module()
    for name, (dtype, tile) in tiles.items():
        emit_gemm(module, dtype, tile, name)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=1
    )
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    outside = [f.name for f in parsed.functions if f.is_declaration and not f.name.startswith("llvm.")]
    assert not outside, "the product must need nothing but intrinsics"
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    integer, pointer = ctypes.c_int64, ctypes.c_void_p
    matrix = [pointer, integer, integer]
    signature = ctypes.CFUNCTYPE(None, *[integer] * 3, *matrix * 3, ctypes.c_bool, pointer)
    compiled = {n: Product(signature(engine.get_function_address(n)), *tiles[n]) for n in tiles}
    yield compiled
    del engine


def _host_bits() -> int:
    features = llvm.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx2") else 128


def _names(which: str | None = None) -> list[str]:
    return [
        f"{dtype}_{kind}"
        for dtype in DTYPES
        for kind in ([which] if which else ("128", "256", "512", "real"))
    ]


def lay_out(values: np.ndarray, layout: str) -> tuple[np.ndarray, np.ndarray]:
    """An array of these values in a layout, and its whole buffer, filled with nan around and between."""
    m, n = values.shape
    if layout == "broadcast":
        row, buffer = lay_out(values[:1], "C")
        return np.broadcast_to(row, (m, n)), buffer
    step, skip = (2, 3) if layout == "strided" else (1, 1)
    buffer = np.full(m * n * step * skip + 2 * GUARD, np.nan, values.dtype)
    whole = buffer[GUARD : GUARD + m * n * step * skip]
    view = (
        whole.reshape(n, m).T if layout.endswith("F") else whole.reshape(m * step, n * skip)[::step, ::skip]
    )
    view = view[::-1, ::-1] if layout.startswith("reversed") else view
    view[...] = values
    return view, buffer


def check(
    product: Product, m: int, k: int, n: int, layouts: tuple[str, str, str], accumulate: bool, rng
) -> None:
    """One product against a sum in higher precision, within K eps |A||B|; nothing but C may change."""
    dtype = product.dtype
    a, a_buffer = lay_out(rng.standard_normal((m, k)).astype(dtype), layouts[0])
    b, b_buffer = lay_out(rng.standard_normal((k, n)).astype(dtype), layouts[1])
    before = rng.standard_normal((m, n)).astype(dtype) if accumulate else np.full((m, n), np.nan, dtype)
    c, c_buffer = lay_out(before, layouts[2])
    originals = [buffer.copy() for buffer in (a_buffer, b_buffer)]
    product.run(a, b, c, accumulate)
    wide = np.longdouble if dtype == np.float64 else np.float64
    exact, size = a.astype(wide) @ b.astype(wide), abs(a).astype(wide) @ abs(b).astype(wide)
    if accumulate:
        exact, size = exact + before, size + abs(before.astype(wide))
    bound = (k + 1) * np.finfo(dtype).eps * size
    context = f"{m}x{k}x{n} {layouts} accumulate={accumulate} {product.tile}"
    assert (abs(c - exact) <= bound).all(), context
    for buffer, original in zip((a_buffer, b_buffer), originals, strict=True):
        np.testing.assert_array_equal(buffer, original, context)
    c[...] = np.nan
    assert np.isnan(c_buffer).all(), f"wrote outside C: {context}"


@pytest.mark.parametrize("name", _names())
def test_edges_and_layouts(products, name):
    product, rng = products[name], np.random.default_rng(1)
    tile = product.tile
    rows = [1, 2, tile.mr // 2, tile.mr // 2 + 1, tile.mr - 1, tile.mr, tile.mr + 1, 2 * tile.mr + 3]
    columns = [1, 2, *(w * tile.lanes + d for w in range(1, 5) for d in (-1, 0, 1)), 2 * tile.nr + 5]
    depths = (
        [1, 2, 4, 7, 10, 11, 2 * tile.lanes + 1, 23] if name[-4:] != "real" else [1, 5, tile.kc, tile.kc + 3]
    )
    for trial in range(120):
        m, n, k = rng.choice(rows), rng.choice([c for c in columns if c > 0]), rng.choice(depths)
        layouts = rng.choice(LAYOUTS), rng.choice(LAYOUTS), rng.choice(LAYOUTS[:-1])
        check(product, int(m), int(k), int(n), layouts, bool(trial % 2), rng)


@pytest.mark.parametrize("name", _names("512") + _names("128"))
@pytest.mark.parametrize("accumulate", [False, True])
def test_every_combination_of_layouts(products, name, accumulate):
    rng, tile = np.random.default_rng(2), products[name].tile
    for a in LAYOUTS:
        for b in LAYOUTS:
            for c in LAYOUTS[:-1]:
                check(products[name], tile.mr + 2, 13, tile.nr + 3, (a, b, c), accumulate, rng)
                check(products[name], 1, 13, tile.nr + 3, (a, b, c), accumulate, rng)
                check(products[name], tile.nr + 3, 13, 1, (a, b, c), accumulate, rng)


@pytest.mark.parametrize("name", _names("real"))
@pytest.mark.parametrize(
    "shape", [(300, 200, 130), (115, 20, 200), (64, 400, 100), (1, 9000, 5), (9000, 3, 1), (5, 9000, 1)]
)
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_blocks_of_the_real_tile(products, name, shape, layout):
    rng = np.random.default_rng(3)
    check(products[name], *shape, (layout, layout, layout), True, rng)
    check(products[name], *shape, (layout, "C", "C"), False, rng)


@pytest.mark.parametrize("name", _names())
@pytest.mark.parametrize("shape", [(900, 4, 1), (1, 4, 900), (4, 900, 1), (1, 900, 4)])
def test_strided_vectors_fit_the_workspace(products, name, shape):
    rng = np.random.default_rng(8)
    for layouts in ("C", "strided", "strided"), ("F", "strided", "strided"), ("strided", "F", "strided"):
        check(products[name], *shape, layouts, True, rng)


@pytest.mark.parametrize("name", _names())
@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 3, 0), (0, 0, 0), (3, 0, 4), (1, 0, 4), (4, 0, 1)])
@pytest.mark.parametrize("accumulate", [False, True])
def test_empty_extents(products, name, shape, accumulate):
    m, k, n = shape
    dtype = products[name].dtype
    c, buffer = lay_out(np.full((m, n), 2.0 if accumulate else np.nan, dtype), "strided")
    products[name].run(np.ones((m, k), dtype), np.ones((k, n), dtype), c, accumulate)
    np.testing.assert_array_equal(c, np.full((m, n), 2.0 if accumulate else 0.0, dtype))
    c[...] = np.nan
    assert np.isnan(buffer).all()


@pytest.mark.parametrize("name", _names())
def test_special_values_reach_their_rows_and_columns_only(products, name):
    """inf and nan spread as NumPy's product spreads them: padding and repeated rows must not add 0*inf."""
    product, rng = products[name], np.random.default_rng(4)
    for m, k, n in [(5, 6, 7), (1, 7, 9), (9, 7, 1), (11, 3, 30), (1, 5, 3), (3, 6, 1)]:
        for layout in ("C", "F"):
            a = np.abs(rng.standard_normal((m, k))) + 0.5
            b = np.abs(rng.standard_normal((k, n))) + 0.5
            a[m - 1, k - 1], b[0, n - 1] = np.inf, np.nan
            left, right = (lay_out(x.astype(product.dtype), layout)[0] for x in (a, b))
            c = np.empty((m, n), product.dtype)
            product.run(left, right, c)
            with np.errstate(invalid="ignore"):
                expected = a @ b
            np.testing.assert_array_equal(np.isnan(c), np.isnan(expected))
            np.testing.assert_array_equal(np.isinf(c), np.isinf(expected))


@pytest.mark.parametrize("name", _names("real") + _names("256"))
def test_a_split_over_rows_or_columns_changes_no_bit(products, name):
    """What a fixed split over threads relies on; parts of one row or column take another path."""
    product, rng = products[name], np.random.default_rng(5)
    a, b = (rng.standard_normal(s).astype(product.dtype) for s in ((150, 211), (211, 170)))
    whole = np.empty((150, 170), product.dtype)
    product.run(a, b, whole)
    parts, turned, shifted = (
        np.empty_like(whole),
        np.empty_like(whole, order="F"),
        lay_out(whole, "strided")[0],
    )
    for rows in (slice(0, 2), slice(2, 97), slice(97, 150)):
        for columns in (slice(0, 5), slice(5, 170)):
            product.run(a[rows], b[:, columns], parts[rows, columns])
    product.run(np.asfortranarray(a), b, turned)
    product.run(a, np.asfortranarray(b), shifted)
    for other in (parts, turned, shifted):
        np.testing.assert_array_equal(whole, other)


def test_concurrent_calls_agree(products):
    product, rng = products["float64_real"], np.random.default_rng(6)
    a, b = rng.standard_normal((120, 300)), rng.standard_normal((300, 90))
    results = [np.empty((120, 90)) for _ in range(32)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda c: product.run(a, b, c), results))
    for c in results[1:]:
        np.testing.assert_array_equal(results[0], c)


def _before_a_guard_page(values: np.ndarray, order: str, at_end: bool) -> tuple[np.ndarray, mmap.mmap]:
    """A copy that touches an inaccessible page right behind (or before) it."""
    page = mmap.PAGESIZE
    room = -(-values.nbytes // page) * page
    region = mmap.mmap(-1, room + 2 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(region))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for edge in (base, base + page + room):
        assert protect(edge, page, 0) == 0
    offset = page + (room - values.nbytes if at_end else 0)
    array = np.frombuffer(region, values.dtype, values.size, offset).reshape(values.shape, order=order)
    array[...] = values
    return array, region


@pytest.mark.parametrize("name", _names("real") + _names("256") + _names("128"))
@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_outside_the_operands_is_touched(products, name, at_end):
    """Operands that end or begin at an inaccessible page: one read or write outside kills the process."""
    product, rng = products[name], np.random.default_rng(7)
    for m, k, n in [(3, 5, 7), (9, 7, 30), (1, 11, 13), (13, 11, 1), (13, 3, 50), (20, 40, 3), (6, 1, 6)]:
        for orders in ("CCC", "FCC", "CFC", "FFC", "CCF", "FFF"):
            a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
            kept = [
                _before_a_guard_page(x.astype(product.dtype), order, at_end)
                for x, order in zip((a, b, np.zeros((m, n))), orders, strict=True)
            ]
            left, right, c = (array for array, _ in kept)
            product.run(left, right, c)
            np.testing.assert_allclose(c, left @ right, atol=1e-3)


def test_tiles_follow_the_registers_and_refuse_nonsense():
    assert choose_tile(np.dtype("float32"), SimpleNamespace(vector_bits=256)).lanes == 8
    with pytest.raises(ValueError, match="float32 and float64 only"):
        choose_tile(np.dtype("complex128"), SimpleNamespace(vector_bits=256))
    with pytest.raises(ValueError, match="vector_bits"):
        choose_tile(np.dtype("float64"), SimpleNamespace(vector_bits=64))
    with pytest.raises(ValueError, match="inconsistent tile"):
        Tile(mr=8, nr=20, mc=240, kc=192, nc=960, lanes=8)
    tile = choose_tile(np.dtype("float64"), SimpleNamespace(vector_bits=512))
    huge = workspace_elements(np.dtype("float64"), tile, 10**6, 10**6, 10**6)
    assert huge == tile.nr * tile.mc + tile.kc * (tile.nc + tile.mc)
