"""Machine code on disk: found again by the next process, and never wrong, whatever happened to the files."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
import numpy as np
import pytest

import jitgrad
from jitgrad.frontend.array import Array
from jitgrad.ir.node import call, interning
from jitgrad.ir.primitive import PRIMITIVES
from jitgrad.lowering.plan import KernelStep
from jitgrad.ops.families import elementwise
from jitgrad.runtime import compile as compiling
from jitgrad.runtime import disk, kept, machine, mathematics
from jitgrad.runtime.compile import plan_graph

ROOT = Path(__file__).resolve().parent.parent
X = np.linspace(0.1, 2.0, 37)


def loss(x):
    return np.sum(np.tanh(x) * np.sin(x) ** 2)


class Machine:
    """A folder for machine code, and this process made to forget what it has in memory, as a new one would have."""

    def __init__(self, folder: Path, monkeypatch):
        self.folder, self.monkeypatch, self.compiled = folder, monkeypatch, []
        compile_text = machine.compile_text

        def counted(text, *args, **kwargs):
            self.compiled.append(text)
            return compile_text(text, *args, **kwargs)

        monkeypatch.setattr(machine, "compile_text", counted)

    @property
    def store(self) -> disk.Store:
        return disk._store(str(self.folder))

    @property
    def files(self) -> list[Path]:
        return sorted(Path(path) for path, _ in self.store.files())

    def run(self, function=loss, x=X) -> bytes:
        """The bytes of the gradient, as a new process would compute it; `compiled` is then what LLVM was given."""
        self.monkeypatch.setattr(compiling, "CODE", compiling.CodeCache(100))
        self.monkeypatch.setattr(mathematics, "_called", {})
        disk._store.cache_clear()
        self.compiled.clear()
        with jitgrad.config(cache_dir=self.folder):
            return jitgrad.jit(jitgrad.grad(lambda x: function(x)))(x).tobytes()


@pytest.fixture
def computer(tmp_path, monkeypatch):
    yield Machine(tmp_path / "cache", monkeypatch)
    disk._store.cache_clear()
    kept._surroundings.cache_clear()


# --- processes

SCRIPT = """
import sys
import numpy as np, jitgrad
from jitgrad.runtime import machine
compile_text, seen = machine.compile_text, []
machine.compile_text = lambda text, *more, **named: seen.append(text) or compile_text(text, *more, **named)
x, m = np.linspace(0.1, 2.0, 37), np.linspace(-1.0, 1.0, 48).reshape(6, 8)
results = [jitgrad.jit(jitgrad.grad(lambda x: np.sum(np.tanh(x) * np.sin(x) ** 2)))(x)]
results.append(jitgrad.jit(lambda m: np.cumsum(np.exp(m) @ m.T, axis=1) - np.max(m))(m))
print(len(seen), *(result.tobytes().hex() for result in results))
assert not {"numba", "scipy"} & {name.partition(".")[0] for name in sys.modules}
"""


def process(folder: Path, script: str = SCRIPT, **environment: str) -> subprocess.Popen:
    settings = {"JITGRAD_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen([sys.executable, "-c", script], env=os.environ | settings, stdout=subprocess.PIPE, text=True)


def printed(running: subprocess.Popen) -> list[str]:
    text, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    return text.split()


def test_a_second_process_compiles_nothing_and_gives_the_same_bits(tmp_path):
    cold = printed(process(tmp_path / "cache", PYTHONHASHSEED="1"))
    warm = printed(process(tmp_path / "cache", PYTHONHASHSEED="2"))
    assert int(cold[0]) > 0
    assert warm == ["0", *cold[1:]]


def test_processes_that_write_at_once(tmp_path):
    running = [process(tmp_path / "cache") for _ in range(3)]
    results = [printed(one) for one in running]
    assert len({tuple(result[1:]) for result in results}) == 1
    store = disk.Store(str(tmp_path / "cache" / "machine-code"))
    names = [Path(path).name for path, _ in store.files()]
    assert names and all(store.read(name) for name in names)  # no file is half written, none was left behind


def test_a_writer_that_is_killed(tmp_path):
    folder = tmp_path / "cache"
    dying = process(folder, "import os\nos.link = lambda *paths: os._exit(9)\n" + SCRIPT)
    dying.communicate(timeout=120)
    assert dying.returncode == 9
    store = disk.Store(str(folder / "machine-code"))
    (left,) = [Path(path) for path, _ in store.files()]
    printed(process(folder))
    assert left.exists()  # it may be somebody's who is still writing
    os.utime(left, (1, 1))
    store.evict(1 << 30)
    assert not left.exists() and store.size()[0] > 0


# --- files that are not what was written


def spoil_by_truncation(file: Path, data: bytes) -> None:
    file.write_bytes(data[: len(data) // 2])


def spoil_by_emptying(file: Path, data: bytes) -> None:
    file.write_bytes(b"")


def spoil_a_bit(where: float):
    def spoil(file: Path, data: bytes) -> None:
        at = int(where * (len(data) - 1))
        file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])

    return spoil


def spoil_by_more(file: Path, data: bytes) -> None:
    file.write_bytes(data + b"\0")


def spoil_by_garbage(file: Path, data: bytes) -> None:
    file.write_bytes(np.random.default_rng(0).bytes(len(data)))


def spoil_by_a_link(file: Path, data: bytes) -> None:
    elsewhere = file.with_name("elsewhere")
    elsewhere.write_bytes(data)
    file.unlink()
    file.symlink_to(elsewhere)


def spoil_by_a_pipe(file: Path, data: bytes) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def spoil_by_permission(file: Path, data: bytes) -> None:
    file.chmod(0o622)


SPOILERS = (
    spoil_by_truncation, spoil_by_emptying, spoil_by_more, spoil_by_garbage, spoil_by_a_link, spoil_by_a_pipe,
    spoil_by_permission, *(spoil_a_bit(where) for where in (0.0, 0.005, 0.05, 0.3, 0.6, 1.0)),
)  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="pipes, links and permissions are POSIX's")
def test_spoilt_files_are_compiled_anew_and_replaced(computer):
    expected = computer.run()
    assert computer.compiled
    names = [file.name for file in computer.files]
    good = {name: (computer.files[0].parent / name).read_bytes() for name in names}
    for spoil in SPOILERS:
        for file in computer.files:
            file.unlink()
            file.write_bytes(good[file.name])
            file.chmod(0o600)
            spoil(file, good[file.name])
        assert computer.run() == expected
        assert computer.compiled, spoil
        assert computer.run() == expected
        assert not computer.compiled, spoil  # what was spoilt has been replaced


def test_a_file_under_another_name_is_not_believed(computer):
    expected = computer.run()
    contents = [file.read_bytes() for file in computer.files]
    for file, other in zip(computer.files, [*contents[1:], contents[0]], strict=True):
        file.unlink()
        file.write_bytes(other)
        file.chmod(0o600)
    assert computer.run() == expected
    with jitgrad.config(cache_dir=computer.folder):
        assert computer.run(lambda x: np.sum(np.cos(x) * x)) == jitgrad.grad(
            lambda x: np.sum(np.cos(x) * x), tier="compile"
        )(X).tobytes()


def test_code_that_calls_what_is_not_there_is_a_miss(computer):
    expected = computer.run()
    text = "declare double @jg.nowhere()\ndefine double @f() {\n %r = call double @jg.nowhere()\n ret double %r }"
    module = llvm.parse_assembly(text)
    code = machine._target_machine(2).emit_object(module)
    for file in computer.files:
        key = file.name
        symbols = {key: "f"}
        file.write_bytes(disk.Entry(symbols, ("jg.nowhere",), code).packed())
    assert computer.run() == expected
    assert computer.compiled


# --- folders that cannot be used


def test_a_folder_that_cannot_be_made(computer, tmp_path):
    expected = computer.run()
    (tmp_path / "file").write_text("")
    computer.folder = tmp_path / "file" / "cache"
    assert computer.run() == expected
    assert computer.compiled
    with jitgrad.config(cache_dir=computer.folder):
        assert jitgrad.cache.info().entries == 0
        jitgrad.cache.clear()


def refusing(code: int, half: bool = False):
    def write(path, data):
        if half:
            Path(path).write_bytes(data[: len(data) // 2])
        tries.append(path)
        raise OSError(code, os.strerror(code), path)

    tries: list[str] = []
    return write, tries


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_disks_that_take_nothing(computer, monkeypatch, code):
    write, tries = refusing(code, half=code == errno.ENOSPC)
    monkeypatch.setattr(disk, "_write_new", write)
    expected = computer.run()
    assert len(tries) == 1  # a disk that is full is not tried again
    assert computer.files == []
    monkeypatch.undo()
    assert np.frombuffer(expected) == pytest.approx(jitgrad.grad(loss, tier="interpret")(X), rel=1e-13)


def test_a_folder_that_can_only_be_read_answers(computer, monkeypatch):
    expected = computer.run()
    for file in computer.files:
        os.utime(file, (1, 1))  # long enough ago for the time of use to be written

    def refuse(*args, **named):
        raise OSError(errno.EROFS, "read-only")

    for name in ("utime", "link", "replace", "unlink", "makedirs"):
        monkeypatch.setattr(os, name, refuse)
    assert computer.run() == expected
    assert not computer.compiled


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no users by number")
def test_somebody_elses_files_are_not_believed(computer, monkeypatch):
    expected = computer.run()
    before = {file: file.stat() for file in computer.files}
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert computer.run() == expected
    assert computer.compiled
    assert {file: file.stat() for file in computer.files} == before  # nor is anything put there


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_folder_is_the_users_alone(computer):
    before = os.umask(0)
    try:
        expected = computer.run()
    finally:
        os.umask(before)
    place = Path(computer.store.folder)
    assert place.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in computer.files)
    place.chmod(0o770)
    assert computer.run() == expected
    assert computer.compiled
    shutil.move(place, place.with_name("moved"))
    place.symlink_to(place.with_name("moved"))
    place.with_name("moved").chmod(0o700)
    assert computer.run() == expected
    assert computer.compiled


# --- keys


def kernels(function, x=X):
    compiled = jitgrad.jit(function)
    program, _ = compiled._dispatcher.find(compiled, (x,), {})
    with interning(program.runner.graph.nodes):
        plan = plan_graph(program.runner.graph, program.runner.layouts)
    return [step.kernel for step in plan.steps if isinstance(step, KernelStep)]


def test_what_makes_code_is_in_the_key(computer, monkeypatch, tmp_path):
    with jitgrad.config(cache_dir=computer.folder):
        (kernel, *_) = kernels(lambda x: np.tanh(x) * 2.0)

        def keys():
            kept._surroundings.cache_clear()
            return kept.kernel_key(kernel), kept.routine_key("jg.matmul.f64"), kept.text_key("text", "f")

        seen = [keys()]
        assert keys() == seen[0]
        host = machine.host()
        for change in ({"cpu": "other"}, {"features": host.features + ",+other"}, {"vector_bytes": 8}, {"triple": "other"}):
            with monkeypatch.context() as patch:
                patch.setattr(machine, "host", lambda change=change: replace(host, **change))
                seen.append(keys())
        for of, name, value in ((llvmlite, "__version__", "0"), (np, "__version__", "0"), (llvm, "llvm_version_info", (1,))):
            with monkeypatch.context() as patch:
                patch.setattr(of, name, value)
                seen.append(keys())
        copy = tmp_path / "jitgrad"
        for part in kept._EMITTING:
            shutil.copytree(ROOT / "jitgrad" / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        assert kept.source_digest(str(copy)) == kept.source_digest(kept._PACKAGE)
        emitter = copy / "backends" / "scalar.py"
        times = emitter.stat()
        emitter.write_text(emitter.read_text().replace("fadd", "fsub"))  # as long as before
        os.utime(emitter, ns=(times.st_atime_ns, times.st_mtime_ns))
        with monkeypatch.context() as patch:
            patch.setattr(kept, "_PACKAGE", str(copy))
            seen.append(keys())
        assert None not in sum(seen, ())
        assert len(set(sum(seen, ()))) == 3 * len(seen)


def test_equal_keys_are_equal_kernels(computer):
    functions = [
        lambda x: np.tanh(x) * 2.0, lambda x: np.tanh(x) * 3.0, lambda x: np.sum(np.tanh(x)), lambda x: np.max(np.tanh(x)),
        lambda x: x[::-1] * 2.0, lambda x: np.cumsum(x) + x, lambda x: np.where(x > 0, x, 0.0), lambda x: x[np.array([1, 2])],
        lambda x: x * -0.0, lambda x: x * 0.0, lambda x: x + 1.0, lambda x: x * 1.0,
    ]  # fmt: skip
    with jitgrad.config(cache_dir=computer.folder):
        found = [k for f in functions for dtype in ("f8", "f4") for k in kernels(f, X.astype(dtype))]
        with jitgrad.config(fastmath=True):
            found += [k for f in functions for k in kernels(f)]
        keys = {kernel: kept.kernel_key(kernel) for kernel in found}
        assert None not in keys.values() and len(set(keys.values())) == len(keys) > 15
        assert all(kept.kernel_key(replace(kernel)) == key for kernel, key in keys.items())
        strange = replace(found[0], body=(replace(found[0].body[0], params=(object(),)), *found[0].body[1:]))
        assert kept.kernel_key(strange) is None


def test_operations_of_a_user_do_not_find_each_others_code(computer):
    def declare(factor):
        PRIMITIVES.pop("scaled_by_user", None)
        elementwise(
            "scaled_by_user",
            numpy=lambda x: factor * x,
            emit=lambda e, x: e.mul(x, e.like(x, factor)),
            partials=lambda x, out: [out / x],
        )

    def scaled(x):
        return np.sum(Array(call("scaled_by_user", x.node)) * x)

    try:
        results = []
        for factor in (2.0, 3.0, 2.0):
            declare(factor)
            results.append(np.frombuffer(computer.run(scaled)))
            np.testing.assert_allclose(results[-1], 2.0 * factor * X, rtol=1e-15)
        assert results[0].tobytes() == results[2].tobytes()
        assert not computer.compiled  # the same text is found
    finally:
        PRIMITIVES.pop("scaled_by_user", None)


def test_kernels_that_were_compiled_together_serve_apart(computer):
    def both(x):
        return np.sum(np.exp(-x) / np.sum(np.sin(x) * x))

    computer.run(both)
    written = {file.stat().st_ino for file in computer.files}
    assert len(written) < len(computer.files)
    with jitgrad.config(cache_dir=computer.folder):
        one, *_ = kernels(jitgrad.grad(both))
        name = kept.kernel_key(one)
        found = kept.loaded([name], mathematics.provide_names)
    assert name in found and len(found) > 1


def test_functions_that_llvm_knows_by_name_stay_alive(computer):
    computer.run()
    named = [weakref.ref(compiled.code) for compiled in mathematics._called.values()]
    mathematics._called.clear()
    gc.collect()  # LLVM links whatever comes next to where they are
    assert named and all(code() is not None for code in named)


# --- size, clear, off


def entry(letter: str, size: int) -> disk.Entry:
    return disk.Entry({letter * 40: "f", letter.upper() * 40: "g"}, (), bytes(size))


def test_the_least_recently_used_goes_first(tmp_path):
    store = disk.Store(str(tmp_path / "code"))
    for age, letter in enumerate("abcdef"):
        store.write(entry(letter, 10_000))
        for name in entry(letter, 0).symbols:
            os.utime(tmp_path / "code" / name, (1e9 - age,) * 2)
    assert store.size()[0] == 12 and 60_000 < store.size()[1] < 62_000
    assert store.read("f" * 40) is not None  # the oldest, used now
    store.evict(61_500)
    assert store.size()[0] == 12
    store.evict(40_000)
    assert sorted({Path(path).name[0] for path, _ in store.files()}) == ["A", "F", "a", "f"]  # 3/4 of what is allowed
    assert store.read("f" * 40) == entry("f", 10_000)


def test_writing_keeps_to_the_size(computer):
    with jitgrad.config(cache_dir=computer.folder, cache_size=1):
        for k in range(200):
            computer.store.write(disk.Entry({disk.digest(bytes([k])): "f"}, (), bytes(50_000)))
        assert computer.store.size()[1] < 3 << 20  # one write in sixteen looks


def test_clear_and_info(computer):
    computer.run()
    with jitgrad.config(cache_dir=computer.folder):
        about = jitgrad.cache.info()
        assert about.folder == computer.store.folder and about.entries > 0 and about.bytes > 1000
        assert about.hits == 0 and about.misses > 0
        assert f"{about.entries} entries" in repr(about)
    computer.run()
    with jitgrad.config(cache_dir=computer.folder):
        assert jitgrad.cache.info().hits > 0 and jitgrad.cache.info().misses == 0
        (Path(about.folder) / "of somebody else").write_text("stays")
        jitgrad.cache.clear()
        assert jitgrad.cache.info().entries == 0
    assert [file.name for file in Path(about.folder).iterdir()] == ["of somebody else"]
    computer.run()
    assert computer.compiled and computer.files


@pytest.mark.parametrize("word", ["off", "", "no", "0"])
def test_off(word, computer, monkeypatch):
    monkeypatch.chdir(computer.folder.parent)
    with jitgrad.config(cache_dir=word):
        assert jitgrad.config.cache_dir == ""
        jitgrad.jit(lambda x: x * 2.0 + 7.0)(X)
        assert jitgrad.cache.info().folder is None
        jitgrad.cache.clear()
    assert list(computer.folder.parent.iterdir()) == []


def test_where_it_is(monkeypatch, tmp_path):
    disk._user_folder.cache_clear()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert disk._user_folder() == str(tmp_path / "jitgrad")
    for value in ("", "relative/path"):  # the XDG specification: relative paths are ignored
        disk._user_folder.cache_clear()
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert disk._user_folder() == str(tmp_path / ".cache" / "jitgrad")
    disk._user_folder.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert disk._user_folder() == str(tmp_path / "Library" / "Caches" / "jitgrad")
    disk._user_folder.cache_clear()


def test_code_is_shown_where_it_comes_from_the_disk(computer, capsys):
    computer.run()
    computer.run()
    assert not computer.compiled
    with jitgrad.config(show="llvm"):
        computer.run()
    assert "define i64 @kernel0" in capsys.readouterr().err
