"""Work shared among threads: the same bits for any number of them, and a pool that outlives forks, errors and exits."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import jitgrad
from jitgrad.backends.cpu.pool import JOBS
from jitgrad.errors import UsageValueError
from jitgrad.runtime import machine
from jitgrad.runtime.threads import parallel_address, usable_threads
from tests.test_sweeps import PROGRAMS, cut_finely

ROOT = Path(__file__).resolve().parent.parent
COUNTS = (1, 2, 3, 8)


def executable_of(function):
    return function._dispatcher.last.runner.executable


def some(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# --- programs


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_same_bits_for_any_number_of_threads(program, dtype, monkeypatch):
    cut_finely(monkeypatch)
    x, y = some((2, 130, 64)).astype(dtype)
    results = []
    for count in COUNTS:
        function = jitgrad.jit(jitgrad.value_and_grad(program, argnums=(0, 1)), threads=count)
        results += [function(x, y) for _ in range(20)]
        executable = executable_of(function)
        assert executable._layout.widest > 1 and executable.threads == min(count, executable._layout.widest)
    value, gradients = results[0]
    for other, slopes in results[1:]:
        assert other == value
        for gradient, slope in zip(gradients, slopes, strict=True):
            np.testing.assert_array_equal(gradient, slope)


def test_what_is_private_lies_apart(monkeypatch):
    cut_finely(monkeypatch)
    function = jitgrad.jit(jitgrad.grad(PROGRAMS[1]), threads=3)
    function(*some((2, 130, 64)))
    executable, plan = executable_of(function), executable_of(function).plan
    private = {node for sweep in plan.sweeps for node in sweep.private}
    assert private and plan.private_bytes % 64 == 0
    assert executable.arena_bytes == plan.arena_bytes + 3 * plan.private_bytes
    for sweep in plan.sweeps:
        places = sorted((plan.buffers[node].offset, sweep.private_bytes(node)) for node in sweep.private)
        for (start, size), (after, _) in zip(places, [*places[1:], (plan.private_bytes, 0)], strict=True):
            assert start + size <= after
    for node, slot in plan.buffers.items():
        assert (slot.slot == plan.private_slot) == (node in private)


def layers(x, w):
    return np.sum(np.tanh(x @ w) ** 2)


def test_matrix_products_have_scratch_for_each_thread(monkeypatch):
    cut_finely(monkeypatch, 20_000)
    x, w = some((700, 64)), some((64, 40), 1)
    results = []
    for count in COUNTS:
        function = jitgrad.jit(jitgrad.grad(layers, argnums=(0, 1)), threads=count)
        results += [function(x, w) for _ in range(10)]
    plan = executable_of(function).plan
    inside = [plan.scratch[k] for sweep in plan.sweeps for k in range(sweep.start, sweep.stop)]
    assert any(0 <= place < plan.private_bytes for place in inside)
    for gradients in results[1:]:
        for gradient, expected in zip(gradients, results[0], strict=True):
            np.testing.assert_array_equal(gradient, expected)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the mode is set in a way of this processor")
def test_workers_round_as_their_caller_does(monkeypatch):
    """A library built with -ffast-math may have switched subnormal numbers off, in one thread."""
    cut_finely(monkeypatch)
    source = """
declare void @llvm.x86.sse.ldmxcsr(ptr)
define void @set_mode(i32 %mode) {
  %at = alloca i32
  store i32 %mode, ptr %at
  call void @llvm.x86.sse.ldmxcsr(ptr %at)
  ret void
}"""
    code = machine.compile_text(source, ["set_mode"])
    set_mode = ctypes.CFUNCTYPE(None, ctypes.c_int32)(code.addresses["set_mode"])
    x = np.full((400, 50), 1e-310)
    function = jitgrad.jit(lambda x: np.abs(x) * 0.5, threads=3)
    assert np.all(function(x) == 5e-311) and executable_of(function).threads == 3
    for _ in range(50):
        set_mode(0x9FC0)  # flush to zero, denormals are zero
        flushed = function(x)
        set_mode(0x1F80)
        assert not flushed.any()
        assert function(x).all()


def test_several_python_threads_on_one_function_and_on_several(monkeypatch):
    cut_finely(monkeypatch)
    x, y = some((2, 130, 64))
    functions = [jitgrad.jit(jitgrad.grad(program), threads=3) for program in PROGRAMS[:3]]
    expected = [function(x, y) for function in functions]

    def work(k):
        for step in range(150):
            which = step % 3 if k % 2 else k % 3
            np.testing.assert_array_equal(functions[which](x, y), expected[which])
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


def test_an_error_in_a_block_is_raised_and_the_pool_goes_on(monkeypatch):
    cut_finely(monkeypatch)
    x, places = some(100), np.arange(5000) % 100

    def program(x, places):
        return np.sum(np.tanh(x[places]) * 2.0)

    function = jitgrad.jit(program, threads=3)
    expected = function(x, places)
    assert executable_of(function).threads == 3
    for at in (0, 17, 2500, 4999):
        bad = places.copy()
        bad[at] = 100
        for _ in range(10):
            with pytest.raises(IndexError, match="100"):
                function(x, bad)
            assert function(x, places) == expected


def test_called_from_njit(monkeypatch):
    numba = pytest.importorskip("numba")
    cut_finely(monkeypatch)
    x, y = some((2, 130, 64))
    slope = jitgrad.to_numba(jitgrad.grad(PROGRAMS[1], threads=3), x, y)

    @numba.njit
    def total(x, y):
        found = np.zeros_like(x)
        for _ in range(20):
            found += slope(x, y)
        return found

    expected = jitgrad.jit(jitgrad.grad(PROGRAMS[1]), threads=1)(x, y)
    assert slope.jitgrad_program[0].threads == 3
    np.testing.assert_allclose(total(x, y), 20 * expected, rtol=1e-12)
    np.testing.assert_array_equal(slope(x, y), expected)


# --- the pool by itself, with functions written in Python

FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(ctypes.c_int64))


def shared(phases, work, threads, private_bytes=64):
    """The status of a program whose phases have so many pieces of two calls each; work(private address, call number)."""
    failures: list[BaseException] = []

    def call(bases, words):
        try:
            return work(bases[1], words[0]) or 0
        except BaseException as error:
            failures.append(error)
            return 1

    function = FUNCTION(call)
    count = 2 * sum(phases)
    words = np.arange(count)
    address = ctypes.cast(function, ctypes.c_void_p).value
    table = np.array([(address, words.ctypes.data + 8 * k) for k in range(count)])
    pieces = np.arange(0, count + 1, 2)
    ends = np.cumsum([0, *phases])
    rows = np.array(list(zip(ends[:-1], ends[1:], strict=True)))
    bases = np.array([0, 4096])
    head = [table.ctypes.data, count, parallel_address(), rows.ctypes.data, len(rows), pieces.ctypes.data]
    record = np.array([*head, 2, 1, private_bytes, threads])
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(parallel_address())
    status = run(bases.ctypes.data, record.ctypes.data)
    assert not failures, failures
    return status


def test_every_call_is_made_once_and_phases_one_after_another():
    done: list[int] = []
    phases = [1, 7, 1, 40, 3]
    for threads in (2, 3, 9):
        done.clear()
        assert shared(phases, lambda _, call: done.append(call), threads) == 0
        assert sorted(done) == list(range(2 * sum(phases)))
        assert all(done.index(call) < done.index(call + 1) for call in range(0, len(done), 2))
        start = 0
        for count in phases:
            assert set(done[start : start + 2 * count]) == set(range(start, start + 2 * count))
            start += 2 * count


def test_threads_at_once_have_private_memory_of_their_own():
    """Three pieces wait for each other, so three threads are at work, no more, each with its memory."""
    barrier = threading.Barrier(3, timeout=60)
    seen: dict[int, set[int]] = {}

    def work(private, call):
        seen.setdefault(threading.get_ident(), set()).add(private)
        if call % 2 == 0:
            barrier.wait()

    for _ in range(20):
        seen.clear()
        assert shared([3], work, 3) == 0
        assert sorted(seen.values(), key=min) == [{4096}, {4096 + 64}, {4096 + 128}]


def test_the_first_of_several_failures_is_told():
    for threads in (2, 3, 8):
        for least in (0, 5, 31):
            begun: list[int] = []

            def work(_, call, least=least, begun=begun):
                begun.append(call)
                return 7 if call == least else 9 if call > least else 0

            assert shared([20], work, threads) == (least + 1) * 256 + 7
            assert set(range(least + 1)) <= set(begun)


def test_a_failed_phase_is_the_last():
    done: list[int] = []
    assert shared([4, 4], lambda _, call: done.append(call) or (3 if call == 6 else 0), 2) == 7 * 256 + 3
    assert max(done) < 8


def test_more_callers_than_jobs():
    count = JOBS + 3
    begun = 0
    lock, everybody = threading.Lock(), threading.Event()

    def work(_, call):
        nonlocal begun
        with lock:
            begun += 1
            if begun >= count:
                everybody.set()
        assert everybody.wait(60)

    with ThreadPoolExecutor(count) as pool:
        assert set(pool.map(lambda _: shared([3], work, 2), range(count))) == {0}
    assert begun == 6 * count


# --- the number


@pytest.mark.parametrize("bad", [0, -1, "two", "0", 1.5, True])
def test_numbers_of_threads_that_are_none(bad):
    with pytest.raises(UsageValueError, match="threads"), jitgrad.config(threads=bad):
        pass
    for make in (jitgrad.jit, jitgrad.grad, jitgrad.value_and_grad):
        with pytest.raises(UsageValueError, match="threads"):
            make(lambda x: x, threads=bad)
    with pytest.raises(UsageValueError, match="threads"):
        jitgrad.vjp(lambda x: x, 1.0, threads=bad)
    with pytest.raises(UsageValueError, match="threads"):
        jitgrad.jvp(lambda x: x, (1.0,), (1.0,), threads=bad)


def test_the_option_and_the_keyword(monkeypatch):
    cut_finely(monkeypatch)
    x = some((130, 64))

    def f(x):
        return np.sum(np.exp(-x * x))

    def threads_of(function, options):
        with jitgrad.config(**options):
            function(x)
            return executable_of(function).threads

    free, fixed = jitgrad.jit(f), jitgrad.jit(jitgrad.grad(f), threads=3)
    assert threads_of(free, {"threads": 2}) == 2
    assert threads_of(free, {"threads": np.int64(4)}) == 4
    assert threads_of(free, {"threads": None}) == usable_threads()
    assert threads_of(fixed, {"threads": 2}) == 3
    value, pullback = jitgrad.vjp(lambda x: np.exp(-x * x), x, threads=3, tier="compile")
    pullback(np.ones_like(x))
    assert pullback._backward.runner.executable.threads == 3


def test_another_number_compiles_no_kernel(monkeypatch):
    cut_finely(monkeypatch)
    function = jitgrad.jit(lambda x: np.sum(np.exp(-x * x)))
    x = some((130, 64))
    with jitgrad.config(threads=2):
        function(x)
    monkeypatch.setattr(machine, "compile_text", None)
    for count in COUNTS:
        with jitgrad.config(threads=count):
            function(x)
            assert executable_of(function).threads == count


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "150000 100000"}, 1),
        ("0::/not/visible\n", {"cpu.max": "210000 100000"}, 3),
        ("3:cpu,cpuacct:/x\n0::/\n", {"cpu/x/cpu.cfs_quota_us": "200000", "cpu/x/cpu.cfs_period_us": "100000"}, 2),
        ("3:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, 4),
        ("0::/\n", {"cpu.max": "nonsense"}, 4),
        ("0::/\n", {}, 4),
        (None, {}, 4),
    ],
)
def test_limits_of_control_groups(text, files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    own, groups = tmp_path / "own", tmp_path / "groups"
    if text is not None:
        own.write_text(text)
    for name, content in files.items():
        file = groups / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    assert usable_threads(own, groups) == expected


# --- processes

PROGRAM = """
import os, sys, threading, time
import numpy as np
import jitgrad
from jitgrad.runtime import threads as pool

def softmax(x):
    weights = np.exp(x - np.max(x, axis=1, keepdims=True))
    return np.sum(x * weights / np.sum(weights, axis=1, keepdims=True))

x = np.random.default_rng(0).normal(size=(4000, 100))
slope = jitgrad.jit(jitgrad.grad(softmax))

def threads():
    return slope._dispatcher.last.runner.executable.threads

def loop():
    while True:
        slope(x)
"""


def run_script(text, tmp_path, **environment):
    """What the script prints; it must end well, and by itself."""
    file = tmp_path / "script.py"
    file.write_text(PROGRAM + text)
    known = {k: v for k, v in os.environ.items() if not k.startswith("JITGRAD_")} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=120, env=known | environment
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def test_forked_children_share_work_again(tmp_path):
    """Forked while another thread is in a call, and from a process whose pool is asleep or at work."""
    text = """
expected = slope(x)
threading.Thread(target=loop, daemon=True).start()
for _ in range(15):
    child = os.fork()
    if child == 0:
        good = all(np.array_equal(slope(x), expected) for _ in range(5))
        os._exit(0 if good and threads() == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(slope(x), expected)
print("done")
sys.stdout.flush()
os._exit(0)
"""
    assert run_script(text, tmp_path, JITGRAD_THREADS="3") == "done\n"


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_of_multiprocessing(method, tmp_path):
    text = f"""
import multiprocessing

def work(k):
    return float(slope(x + k)[0, 0])

if __name__ == "__main__":
    expected = [work(k) for k in range(4)]
    with multiprocessing.get_context("{method}").Pool(2) as processes:
        print(processes.map(work, range(4)) == expected, threads())
"""
    assert run_script(text, tmp_path, JITGRAD_THREADS="2") == "True 2\n"


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "os._exit(0)", "os.execv('/bin/true', ['true'])"])
def test_the_interpreter_ends_while_threads_are_in_calls(end, tmp_path):
    text = f"""
slope(x)
for _ in range(3):
    threading.Thread(target=loop, daemon=True).start()
time.sleep(0.05)
{end}
"""
    run_script(text, tmp_path, JITGRAD_THREADS="3")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_workers_fall_asleep_and_leave_signals_to_python(tmp_path):
    text = """
import pathlib, signal
tasks = pathlib.Path("/proc/self/task")
slope = jitgrad.jit(jitgrad.grad(softmax), threads=1)
slope(x)
before = set(tasks.iterdir())
jitgrad.jit(jitgrad.grad(softmax), threads=4)(x)
workers = set(tasks.iterdir()) - before
masks = [int(line.split()[1], 16) for task in workers for line in (task / "status").open() if line.startswith("SigBlk")]
print(len(workers), all(mask >> signal.SIGINT - 1 & 1 for mask in masks))
while any((task / "stat").read_text().rpartition(")")[2].split()[0] != "S" for task in workers):
    time.sleep(0.01)
"""
    assert run_script(text, tmp_path) == "3 True\n"


def test_one_thread_makes_no_pool(tmp_path):
    text = """
slope(x)
print(threads(), pool._pool.cache_info().currsize)
"""
    assert run_script(text, tmp_path, JITGRAD_THREADS="1") == "1 0\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinities")
def test_affinity_is_respected(tmp_path):
    text = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
slope(x)
print(threads(), pool._pool.cache_info().currsize)
"""
    assert run_script(text, tmp_path) == "1 0\n"


def test_the_environment_variable(tmp_path):
    assert run_script("slope(x); print(threads())", tmp_path, JITGRAD_THREADS="5") == "5\n"
    text = """
os.environ["JITGRAD_THREADS"] = "0"
sys.modules.pop("jitgrad.config")
try:
    import jitgrad.config
except ValueError as error:
    print("JITGRAD_THREADS" in str(error))
"""
    assert run_script(text, tmp_path) == "True\n"
