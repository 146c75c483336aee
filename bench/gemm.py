"""The matrix product against the BLAS that SciPy brings, one thread, interleaved in one process.

Both sides are called from the same compiled loop, so neither pays for Python. Prints GF/s and the ratio of
times (above 1: ours is faster). ``--peer-python`` names an interpreter with JAX, timed in a process of its
own and through its Python call: small shapes there measure the call.

    python bench/gemm.py [--dtype float64] [--seconds 0.2] [--bits 512] [--peer-python PYTHON]
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import ctypes
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import scipy.linalg.cython_blas
from llvmlite import binding as llvm
from llvmlite import ir

from jitgrad.backends.cpu.gemm import choose_tile, emit_gemm, workspace_elements

I32, I64, PTR = ir.IntType(32), ir.IntType(64), ir.PointerType()

JAX_SCRIPT = """
import json, os, sys, time
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
out = []
for m, k, n, ta, tb, dtype in json.loads(sys.argv[1]):
    a = jnp.asarray(np.random.rand(*((k, m) if ta else (m, k))).astype(dtype))
    b = jnp.asarray(np.random.rand(*((n, k) if tb else (k, n))).astype(dtype))
    f = jax.jit(lambda a, b: (a.T if ta else a) @ (b.T if tb else b))
    f(a, b).block_until_ready()
    best, end = 9e9, time.perf_counter() + 0.2
    while time.perf_counter() < end:
        t = time.perf_counter(); f(a, b).block_until_ready(); best = min(best, time.perf_counter() - t)
    out.append(best)
print(json.dumps(out))
"""


@dataclass(frozen=True)
class Shape:
    """(m x k) by (k x n), with A or B stored transposed."""

    m: int
    k: int
    n: int
    ta: bool = False
    tb: bool = False

    def __str__(self) -> str:
        return f"{self.m}x{self.k}{'t' if self.ta else ''} . {self.k}x{self.n}{'t' if self.tb else ''}"

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.k * self.n


SHAPES = [
    *(Shape(size, size, size) for size in (2, 4, 8, 16, 24, 32, 48, 64, 100, 128, 256, 512, 1024)),
    Shape(16, 8, 16), Shape(3, 3, 3), Shape(4, 128, 784), Shape(64, 128, 10), Shape(10000, 10, 10),
    Shape(64, 784, 128), Shape(784, 64, 128, ta=True), Shape(64, 128, 784, tb=True),
    Shape(64, 10, 128, tb=True), Shape(128, 64, 10, ta=True),
    Shape(1, 784, 128), Shape(1, 128, 784, tb=True), Shape(784, 128, 1), Shape(128, 784, 1, ta=True),
    Shape(10000, 10, 1), Shape(10, 10000, 1, ta=True),
    Shape(1, 2000, 2000), Shape(2000, 2000, 1),
]  # fmt: skip


def compile_products(dtype: np.dtype, bits: int) -> tuple[Callable, Callable, object, object]:
    """Compiled loops ``ours(repeats, ...)`` and ``blas(repeats, ...)``, the tile, what keeps them alive."""
    started = time.thread_time()
    tile = choose_tile(dtype, SimpleNamespace(vector_bits=bits))
    module = ir.Module()
    product = emit_gemm(module, dtype, tile, "product")
    text = str(module)
    emitted = time.thread_time()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    machine.emit_object(llvm.parse_assembly(text))
    compiled = time.thread_time()
    print(
        f"{dtype} {tile}: emit {1e3 * (emitted - started):.0f}, compile {1e3 * (compiled - emitted):.0f} ms"
    )
    repeat("ours", module, product)
    letter = "d" if dtype == np.float64 else "s"
    capsule = scipy.linalg.cython_blas.__pyx_capi__[f"{letter}gemm"]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    llvm.add_symbol("blas_gemm", get(capsule, get_name(capsule)))
    repeat("blas", module, ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR] * 13), "blas_gemm"))
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    long, pointer = ctypes.c_int64, ctypes.c_void_p
    ours = [
        long,
        long,
        long,
        pointer,
        long,
        long,
        pointer,
        long,
        long,
        pointer,
        long,
        long,
        ctypes.c_bool,
        pointer,
    ]
    return (
        ctypes.CFUNCTYPE(None, long, *ours)(engine.get_function_address("repeat_ours")),
        ctypes.CFUNCTYPE(None, long, *[pointer] * 13)(engine.get_function_address("repeat_blas")),
        tile,
        engine,
    )


def repeat(name: str, module: ir.Module, function: ir.Function) -> None:
    """A function that calls another one so many times with the same arguments."""
    signature = ir.FunctionType(ir.VoidType(), [I64, *function.function_type.args])
    looped = ir.Function(module, signature, f"repeat_{name}")
    entry, body, done = (looped.append_basic_block(part) for part in ("entry", "body", "done"))
    builder = ir.IRBuilder(entry)
    builder.branch(body)
    builder.position_at_end(body)
    count = builder.phi(I64)
    builder.call(function, looped.args[1:])
    following = builder.add(count, ir.Constant(I64, 1))
    count.add_incoming(ir.Constant(I64, 0), entry)
    count.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, looped.args[0]), body, done)
    ir.IRBuilder(done).ret_void()


def bind(
    shape: Shape, dtype: np.dtype, ours: Callable, blas: Callable, tile: object
) -> tuple[Callable, Callable]:
    """Both products of one shape as functions of the number of repetitions, checked against each other."""
    rng = np.random.default_rng(0)
    m, k, n = shape.m, shape.k, shape.n
    a = rng.standard_normal((k, m) if shape.ta else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if shape.tb else (k, n)).astype(dtype)
    mine, theirs = np.empty((m, n), dtype), np.empty((m, n), dtype)
    scratch = np.empty(workspace_elements(dtype, tile, m, n, k) + 64 // dtype.itemsize, dtype)
    aligned = scratch.ctypes.data + -scratch.ctypes.data % 64
    left, right = (a.T if shape.ta else a), (b.T if shape.tb else b)
    strides = [[step // dtype.itemsize for step in array.strides] for array in (left, right, mine)]
    (rsa, csa), (rsb, csb), (rsc, csc) = strides
    arguments = (
        m,
        n,
        k,
        a.ctypes.data,
        rsa,
        csa,
        b.ctypes.data,
        rsb,
        csb,
        mine.ctypes.data,
        rsc,
        csc,
        False,
        aligned,
    )
    # Column-major BLAS on row-major arrays computes C' = B' A'.
    flags = np.array([b"NT"[shape.tb], b"NT"[shape.ta]], np.uint8)
    sizes = np.array([n, m, k, b.shape[1], a.shape[1], n], np.int32)
    factors = np.array([1, 0], dtype)
    f, s, x = flags.ctypes.data, sizes.ctypes.data, factors.ctypes.data
    reference = (
        f, f + 1, s, s + 4, s + 8, x, b.ctypes.data, s + 12, a.ctypes.data, s + 16, x + dtype.itemsize,
        theirs.ctypes.data, s + 20,
    )  # fmt: skip
    keep = (a, b, mine, theirs, scratch, flags, sizes, factors)
    ours(1, *arguments)
    blas(1, *reference)
    bound = 2 * k * np.finfo(dtype).eps * (abs(left) @ abs(right))
    assert (abs(mine - theirs) <= bound).all(), shape
    return (lambda count: (ours(count, *arguments), keep)), (lambda count: (blas(count, *reference), keep))


def interleave(calls: tuple[Callable, ...], flops: float, seconds: float) -> list[float]:
    """The best time of one product for each side."""
    count = max(1, int(1e-4 / (flops / 5e10 + 5e-8)))
    best, end, rounds = [9e9] * len(calls), time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < 5:
        rounds += 1
        for i, call in enumerate(calls):
            started = time.perf_counter()
            call(count)
            best[i] = min(best[i], (time.perf_counter() - started) / count)
    return best


def time_jax(python: str, dtype: np.dtype) -> list[float]:
    """The best time of each shape under JAX on one thread, dispatch included."""
    rows = json.dumps([[s.m, s.k, s.n, s.ta, s.tb, dtype.name] for s in SHAPES])
    run = subprocess.run([python, "-c", JAX_SCRIPT, rows], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", choices=("float32", "float64"))
    parser.add_argument("--bits", type=int, choices=(128, 256, 512))
    parser.add_argument("--seconds", type=float, default=0.2, help="per shape")
    parser.add_argument("--peer-python")
    options = parser.parse_args()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    host = llvm.get_host_cpu_features()
    bits = options.bits or (512 if host.get("avx512f") else 256 if host.get("avx2") else 128)
    for dtype in map(np.dtype, [options.dtype] if options.dtype else ["float64", "float32"]):
        ours, blas, tile, engine = compile_products(dtype, bits)
        jax = time_jax(options.peer_python, dtype) if options.peer_python else None
        print(
            f"{'shape':>28} {'ns':>10} {'GF/s':>7} {'BLAS GF/s':>9} {'ratio':>6}"
            + (" JAX ratio" if jax else "")
        )
        for i, shape in enumerate(SHAPES):
            mine, theirs = interleave(bind(shape, dtype, ours, blas, tile), shape.flops, options.seconds)
            rates = f"{shape.flops / mine / 1e9:7.1f} {shape.flops / theirs / 1e9:9.1f} {theirs / mine:6.2f}"
            print(
                f"{shape!s:>28} {mine * 1e9:10.0f} {rates}" + (f" {jax[i] / mine:9.2f}" if jax else ""),
                flush=True,
            )
        del engine


if __name__ == "__main__":
    main()
