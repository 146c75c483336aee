"""Measure what this machine can do at most: bytes a second from and to memory, floating-point operations a second.

The kernels are LLVM IR of this file, compiled by llvmlite: streams that are read, copied and combined (a = b + s c), with
ordinary and with non-temporal stores, and chains of independent fused multiply-adds in registers. Each runs on one
thread and on all; the best of several repeats counts, since whatever disturbs makes it slower (and all threads are never
counted for less than one). `python bench/limits.py`
prints the table, in about ten seconds.
"""
from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from llvmlite import binding as llvm

SETTINGS = ("1", "all")
LANES = 8                   # doubles of the widest vector; narrower machines split it
CHAINS = 12                 # independent multiply-adds: latency times throughput of any processor there is
UNROLL = 4                  # vectors a turn of a stream's loop
REPEATS, SECONDS = 12, 0.5  # of a kernel: at least so many, at most so long beyond them
DEFAULT_CACHE = 32 << 20    # bytes, where the system does not tell
FMA_TURNS = 2_000_000


@dataclass(frozen=True)
class Speed:
    """Bytes or floating-point operations a second, by thread setting."""
    read: float
    copy: float
    triad: float
    float64: float
    float32: float


@dataclass(frozen=True)
class Limits:
    """The speeds on one and on all threads, and the bytes of the largest cache."""
    one: Speed
    all: Speed
    cache: int

    def speed(self, setting: str) -> Speed:
        return self.one if setting == "1" else self.all

    @classmethod
    def of(cls, data: dict) -> Limits:
        """The limits that a run's JSON holds."""
        return cls(Speed(**data["one"]), Speed(**data["all"]), data["cache"])


# ---- kernels

def stream_ir(name: str, sources: int, *, write: bool, lasting: bool = True) -> str:
    """void name(i64 n, target, source ...): sum, copy or triad of n doubles; the sum is stored to the target."""
    pointers = ["%target", *(f"%source{k}" for k in range(sources))]
    vector = f"<{LANES} x double>"
    hint = "" if lasting else ", !nontemporal !0"
    body, sums = [], []
    for u in range(UNROLL):
        body.append(f"  %at{u} = add i64 %i, {u * LANES}")
        for k in range(sources):
            body.append(f"  %p{u}_{k} = getelementptr double, ptr %source{k}, i64 %at{u}")
            body.append(f"  %v{u}_{k} = load {vector}, ptr %p{u}_{k}, align 64")
        value = f"%v{u}_0"
        if sources == 2:
            body.append(f"  %s{u} = call {vector} @llvm.fma.v{LANES}f64({vector} %v{u}_1, {vector} {splat(0.5)}, "
                        f"{vector} {value})")
            value = f"%s{u}"
        if write:
            body.append(f"  %t{u} = getelementptr double, ptr %target, i64 %at{u}")
            body.append(f"  store {vector} {value}, ptr %t{u}, align 64{hint}")
        else:
            body.append(f"  %next{u} = fadd {vector} %sum{u}, {value}")
            sums.append(f"  %sum{u} = phi {vector} [ zeroinitializer, %entry ], [ %next{u}, %loop ]")
    last = [] if write else [f"  store {vector} %next{u}, ptr %target, align 64" for u in range(UNROLL)]
    lines = [
        f"define void @{name}(i64 %n, {', '.join('ptr noalias ' + p for p in pointers)}) {{",
        "entry:", "  br label %loop", "loop:",
        "  %i = phi i64 [ 0, %entry ], [ %more, %loop ]", *sums, *body, f"  %more = add i64 %i, {UNROLL * LANES}",
        "  %go = icmp slt i64 %more, %n", "  br i1 %go, label %loop, label %done", "done:", *last, "  ret void", "}",
    ]
    return "\n".join(lines)


def splat(value: float, kind: str = "double", lanes: int = LANES) -> str:
    return "<" + ", ".join(f"{kind} {value}" for _ in range(lanes)) + ">"


def fma_ir(name: str, kind: str, lanes: int) -> str:
    """void name(i64 n, target): n turns of `CHAINS` multiply-adds of vectors."""
    vector, function = f"<{lanes} x {kind}>", f"@llvm.fma.v{lanes}{'f64' if kind == 'double' else 'f32'}"
    chains = range(CHAINS)
    lines = [
        f"define void @{name}(i64 %n, ptr %target) {{", "entry:", "  br label %loop", "loop:",
        "  %i = phi i64 [ 0, %entry ], [ %more, %loop ]",
        *(f"  %c{k} = phi {vector} [ {splat(float(k), kind, lanes)}, %entry ], [ %d{k}, %loop ]" for k in chains),
        *(f"  %d{k} = call {vector} {function}({vector} %c{k}, {vector} {splat(0.5, kind, lanes)}, "
          f"{vector} {splat(1.0, kind, lanes)})" for k in chains),
        "  %more = add i64 %i, 1", "  %go = icmp slt i64 %more, %n", "  br i1 %go, label %loop, label %done", "done:",
        *(line for k in chains for line in (
            f"  %p{k} = getelementptr {vector}, ptr %target, i64 {k}", f"  store {vector} %d{k}, ptr %p{k}, align 4")),
        "  ret void", "}",
    ]
    return "\n".join(lines)


def module_ir() -> str:
    wide = 2 * LANES
    return "\n".join([
        f"declare <{LANES} x double> @llvm.fma.v{LANES}f64(<{LANES} x double>, <{LANES} x double>, <{LANES} x double>)",
        f"declare <{wide} x float> @llvm.fma.v{wide}f32(<{wide} x float>, <{wide} x float>, <{wide} x float>)",
        stream_ir("read", 1, write=False),
        stream_ir("copy", 1, write=True), stream_ir("copy_past_cache", 1, write=True, lasting=False),
        stream_ir("triad", 2, write=True), stream_ir("triad_past_cache", 2, write=True, lasting=False),
        fma_ir("float64", "double", LANES), fma_ir("float32", "float", wide),
        "!0 = !{i32 1}",
    ])


class Kernels:
    """The compiled kernels, by name: functions that let go of the GIL."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features().flatten() + ",-prefer-256-bit"
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True)
        module = llvm.parse_assembly(module_ir())
        self.engine = llvm.create_mcjit_compiler(module, machine)
        self.engine.finalize_object()

    def function(self, name: str, pointers: int) -> Callable:
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * pointers)
        return prototype(self.engine.get_function_address(name))


# ---- measuring

def aligned(count: int) -> np.ndarray:
    """So many doubles from a multiple of 64 bytes on, their pages touched."""
    raw = np.ones(count + LANES)
    start = -(raw.ctypes.data % -64) // 8 if raw.ctypes.data % 64 else 0
    return raw[start:start + count]


def best_seconds(calls: list[Callable[[], None]], pool: ThreadPoolExecutor | None) -> float:
    """The shortest time in which all calls, one a thread, are done."""
    def once() -> None:
        if pool is None:
            calls[0]()
        else:
            list(pool.map(lambda call: call(), calls))

    best, repeats, end = float("inf"), 0, time.perf_counter() + SECONDS
    while repeats < REPEATS or time.perf_counter() < end:
        started = time.perf_counter()
        once()
        best = min(best, time.perf_counter() - started)
        repeats += 1
    return best


def streams(kernels: Kernels, name: str, arrays: list[np.ndarray], threads: int) -> list[Callable[[], None]]:
    """The calls that work through the arrays, each thread through a part of its own."""
    function = kernels.function(name, len(arrays))
    part = arrays[0].size // threads // (UNROLL * LANES) * (UNROLL * LANES)

    def call(k: int) -> Callable[[], None]:
        addresses = [array.ctypes.data + 8 * part * k for array in arrays]
        return lambda: function(part, *addresses)
    return [call(k) for k in range(threads)]


def speed(kernels: Kernels, threads: int, count: int) -> Speed:
    """What so many threads do with arrays of `count` doubles, and in registers."""
    target, first, second = (aligned(count) for _ in range(3))
    pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def bandwidth(name: str, *arrays: np.ndarray, moved: int) -> float:
        return moved * 8.0 * count / best_seconds(streams(kernels, name, list(arrays), threads), pool)

    def flops(name: str, lanes: int) -> float:
        outs = [aligned(CHAINS * LANES) for _ in range(threads)]
        function = kernels.function(name, 1)
        calls = [lambda out=out: function(FMA_TURNS, out.ctypes.data) for out in outs]      # type: ignore[misc]
        return 2.0 * lanes * CHAINS * FMA_TURNS * threads / best_seconds(calls, pool)

    try:
        return Speed(
            read=bandwidth("read", target, first, moved=1),
            copy=max(bandwidth(name, target, first, moved=2) for name in ("copy", "copy_past_cache")),
            triad=max(bandwidth(name, target, first, second, moved=3) for name in ("triad", "triad_past_cache")),
            float64=flops("float64", LANES), float32=flops("float32", 2 * LANES))
    finally:
        if pool is not None:
            pool.shutdown()


def measure(cores: int, cache: int | None = None) -> Limits:
    """The limits of this machine; streams are four times as long as the cache."""
    cache = largest_cache() if cache is None else cache
    kernels, count = Kernels(), max(4 * cache // 8, 1024)
    one = speed(kernels, 1, count)
    many = asdict(one if cores == 1 else speed(kernels, cores, count))
    return Limits(one, Speed(**{name: max(value, many[name]) for name, value in asdict(one).items()}), cache)


def largest_cache() -> int:
    """Bytes of the last-level cache, as Linux tells it."""
    sizes = [DEFAULT_CACHE >> 5]
    for entry in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with suppress(OSError, ValueError):
            text = entry.read_text().strip()
            sizes.append(int(text.rstrip("KM")) << {"K": 10, "M": 20}.get(text[-1], 0))
    return max(sizes) if len(sizes) > 1 else DEFAULT_CACHE


def table(limits: Limits) -> str:
    """The limits for people, in GB/s and GFLOP/s."""
    lines = [f"largest cache: {limits.cache / 2**20:.0f} MiB", f"{'threads':<10}" + "".join(
        f"{name:>10}" for name in asdict(limits.one)) + "   (GB/s of memory, GFLOP/s)"]
    for setting in SETTINGS:
        values = asdict(limits.speed(setting)).values()
        lines.append(f"{setting:<10}" + "".join(f"{value / 1e9:>10.1f}" for value in values))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)))
