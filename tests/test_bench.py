"""The benchmark is right about numbers: its statistics, tables and schedule, and what every row computes."""
from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jitgrad
from bench import harness, limits, memory, report, run, summary
from bench.harness import Document, Measurement
from bench.rows import FAMILIES, ROWS, engines
from bench.rows.compile import define, scalar_source, source
from bench.rows.row import Engine, FreshRow, Row, Work, everyone, leaves, map_leaves

# ---- an engine that differentiates by central differences: it can run every program of the catalogue

STEP = 0.005
# f'(x) h = sum_k w_k (f(x + k h) - f(x - k h)) + O(h^7); Fornberg, Math. Comp. 51 (1988), table 1
WEIGHTS = ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))


def slope(f: Callable[[float], float], x: float) -> float:
    return sum(w * (f(x + k * STEP) - f(x - k * STEP)) for k, w in WEIGHTS) / STEP


def entries_slope(f: Callable[[], float], leaf: np.ndarray) -> np.ndarray:
    """d f() / d leaf, where `f` reads `leaf`; every entry is moved in place and put back."""
    def moved(index: tuple, value: float) -> float:
        before, leaf[index] = leaf[index], value
        try:
            return float(f())
        finally:
            leaf[index] = before

    out = np.empty_like(leaf)
    for index in np.ndindex(leaf.shape):
        out[index] = slope(lambda value, index=index: moved(index, value), leaf[index])
    return out


def differences_grad(f: Callable, argnums: int | tuple = 0) -> Callable:
    def gradient(*arguments):
        arguments = list(map_leaves(np.array, arguments))

        def of_argument(i: int):
            if isinstance(arguments[i], float):
                return slope(lambda x: f(*arguments[:i], x, *arguments[i + 1:]), arguments[i])
            return map_leaves(lambda leaf: entries_slope(lambda: f(*arguments), leaf), arguments[i])
        return of_argument(argnums) if isinstance(argnums, int) else tuple(of_argument(i) for i in argnums)
    return gradient


def differences_value_and_grad(f: Callable, argnums: int | tuple = 0) -> Callable:
    gradient = differences_grad(f, argnums)
    return lambda *arguments: (f(*arguments), gradient(*arguments))


def in_double(x: np.ndarray) -> np.ndarray:
    return np.array(x, dtype=np.float64 if x.dtype.kind == "f" else x.dtype)


DIFFERENCES = Engine("jitgrad", jitgrad, np, differences_grad, differences_value_and_grad, jit=lambda f: f,
                     arrays=in_double)


def in_float64(row: Row) -> Row:
    """The row, its data in double precision, so that differences of it mean something."""
    return replace(row, own_arrays=True)


def test_differences_know_derivatives():
    f = differences_grad(lambda x: np.sum(np.sin(x)))
    np.testing.assert_allclose(f(np.array([0.3, 1.0])), np.cos([0.3, 1.0]), rtol=1e-12)
    second = differences_grad(differences_grad(lambda x: math.exp(2.0 * x)))
    assert second(0.1) == pytest.approx(4.0 * math.exp(0.2), rel=1e-9)


@pytest.fixture(scope="module")
def jitgrad() -> Engine:
    return engines.load("jitgrad", threads=1)


STEADY = [row for row in ROWS if row.repeats]
FRESH = [row for row in ROWS if not row.repeats and not row.name.startswith("start.")]
START = [row for row in ROWS if row.name.startswith("start.")]


@pytest.mark.parametrize("row", STEADY + FRESH, ids=lambda row: row.name)
def test_jitgrad_program_agrees_with_differences(row: Row | FreshRow, jitgrad: Engine):
    ours = harness.host_leaves(row.thunks(jitgrad, **row.tiny)(0)(), jitgrad.host)
    expected = (in_float64(row) if row.repeats else row).thunks(DIFFERENCES, **row.tiny)(0)()
    single = row.size.get("dtype") == "float32"
    assert len(ours) == len(leaves(expected))
    for result, reference in zip(ours, leaves(expected), strict=True):
        assert np.shape(result) == np.shape(reference)
        assert isinstance(result, float) or result.dtype == (np.float32 if single else np.float64)
        np.testing.assert_allclose(result, reference, rtol=0,
                                   atol=(2e-5 if single else 1e-8) * max(1.0, np.max(np.abs(reference))))


@pytest.mark.parametrize("row", START, ids=lambda row: row.name)
def test_start_program_prints_the_gradient(row: FreshRow, jitgrad: Engine):
    x = np.linspace(0.0, 1.0, 10)
    expected = np.sum((np.cos(x) - 2.0 * x * np.sin(x)) * np.exp(-x * x))
    assert row.thunks(jitgrad)(0)() == pytest.approx(expected, rel=1e-12)


def test_work_is_declared_for_the_dtype_and_grows_with_the_data():
    for row in STEADY:
        if row.work is not None:
            full, tiny = (row.work(**{**row.size, **size}) for size in ({}, row.tiny))
            assert full.dtype == row.size["dtype"] and full.flops > tiny.flops > 0
    declared = {row.name.split(".")[0] for row in STEADY if row.work is not None}
    assert declared == set(FAMILIES) - {"call", "compile", "once", "graph", "start", "newsize", "second", "many"}


def test_torch_compile_gets_what_torch_gets():
    rows = [row for row in ROWS if "torch.compile" in row.programs]
    assert rows and all(row.programs["torch.compile"] is row.programs["torch"] for row in rows)


def test_names_are_unique_and_jitgrad_is_in_every_row():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all("jitgrad" in row.programs and len(row.programs) > 1 for row in ROWS)


def test_chain_has_its_operations_and_no_two_are_alike():
    text = source(100, seed=1)
    operations = ("a * ", "a + ", "a - ", "a / ", "x + ", "np.sin", "np.tanh", "np.exp", "-a")
    assert sum(text.count(operation) for operation in operations) == 100
    assert source(100, seed=2) != text == source(100, seed=1)
    x = np.linspace(0.5, 1.5, 7)
    assert np.isfinite(define(np, source(2000, 3), "chain")(x))


def test_scalar_code_has_its_operations_and_stays_bounded():
    text = scalar_source(100, seed=1)
    assert sum(text.count(operation) for operation in (" * ", " + ", " - ", " / ", "np.cos", "np.tanh")) == 100 + 6
    assert abs(define(np, scalar_source(2000, 3), "scalar")(0.4)) < 10.0


# ---- statistics

def measured(engine: str, seconds: tuple, setting: str = "1", row: str = "r", **more) -> Measurement:
    return Measurement(row, engine, setting, first=0.5, seconds=seconds, cores=(1.0,) * len(seconds), **more)


ABOUT = {"cpu": "a processor", "cores": 2, "python": "3", "versions": {"torch": "1.2"}}
DOCUMENT = Document(ABOUT, (
    measured("jitgrad", (1.0, 2.0, 3.0)), measured("jitgrad", (0.5, 0.5, 0.5), "all"),
    measured("torch", (4.0, 4.0, 8.0)), measured("torch", (5.0, 5.0, 5.0), "all"),
    measured("numba", (0.25, 0.25, 0.25)),
    measured("jitgrad", (2e-6, 2e-6, 2e-6), row="s"),
    Measurement("s", "torch", "1", error="RuntimeError: no"),
    measured("numba", (8e-6, 8e-6, 8e-6), row="s", disagreement="result 0 differs by 1"),
))


def test_ratio_is_of_the_better_settings_and_paired_by_round():
    table = harness.ratios(DOCUMENT)
    assert table["r"]["torch"] == harness.Ratio(8.0, 8.0, 12.0, "1")
    assert table["r"]["numba"].median == 0.5
    assert set(table["s"]) == {"numba"}


def test_ratio_forgets_what_disturbs_both():
    base, peer = measured("jitgrad", (1.0, 10.0, 1.0, 2.0)), measured("jax", (3.0, 30.0, 3.0, 6.0))
    assert harness.ratio(peer, base) == harness.Ratio(3.0, 3.0, 3.0, "1")


def test_geometric_mean_and_quartiles():
    assert harness.geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert harness.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


@pytest.mark.parametrize(("seconds", "text"), [
    (2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.5e-6, "4.5 us"), (90e-9, "90 ns"), (0.9999, "1 s"), (None, ""),
])
def test_duration(seconds: float | None, text: str):
    assert report.duration(seconds) == text


def test_table_shows_ratios_losses_failures_and_means():
    lines = [line.split("  ") for line in report.ratio_table(DOCUMENT).splitlines()]
    lines = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert lines == [
        ["row", "jitgrad", "torch", "numba"],
        ["r", "500 ms ±0% [all]", "8 [1]", "0.5! [1]"],
        ["s", "2 us ±0% [1]", "FAILED", "4 [1]"],
        ["geometric mean r", "8 of 1", "0.5 of 1"],
        ["geometric mean s", "4 of 1"],
        ["geometric mean", "8 of 1", "1.41 of 2"],
    ]


def test_report_is_loud_about_disagreement_and_failure():
    text = report.report(DOCUMENT)
    assert "FAILED: s, torch [1]: RuntimeError: no" in text
    assert "DISAGREES: s, numba [1]: result 0 differs by 1" in text


def test_json_round_trip(tmp_path: Path):
    DOCUMENT.save(tmp_path / "run.json")
    again = Document.load(tmp_path / "run.json")
    assert again == DOCUMENT
    assert report.report(again) == report.report(DOCUMENT)


@pytest.mark.parametrize(("result", "said"), [
    ([np.ones(3)], None),
    ([np.ones(3) + 1e-12], None),
    ([np.ones(3) + 1e-6], "differs by 1e-06"),
    ([np.array([1.0, 1.0, np.nan])], "differs by nan"),
    ([np.ones(3, np.float32)], "is float32, not float64"),
    ([np.ones((3, 1))], "has shape (3, 1), not (3,)"),
    ([np.ones(3), np.ones(3)], "2 results where 1"),
])
def test_disagreement(result: list, said: str | None):
    found = harness.disagreement(result, [np.ones(3)])
    assert found is None if said is None else said in found


# ---- limits and goals

SLOW = limits.Speed(read=10.0, copy=8.0, triad=8.0, float64=100.0, float32=200.0)
LIMITS = limits.Limits(SLOW, replace(SLOW, float64=50.0), cache=4)


@pytest.mark.parametrize(("work", "setting", "expected"), [
    (Work(read=100), "1", (10.0, "memory")),
    (Work(read=40, written=40), "1", (10.0, "memory")),                 # 40 bytes copied at 8 a second
    (Work(read=100, flops=2000), "1", (20.0, "flops")),
    (Work(read=100, flops=2000), "all", (40.0, "flops")),
    (Work(read=100, flops=2000, dtype="float32"), "1", (10.0, "memory")),
    (Work(read=4, written=4, flops=1), "1", (0.01, "flops")),           # in cache: no memory is asked
])
def test_least_seconds(work: Work, setting: str, expected: tuple):
    seconds, limit = summary.least_seconds(work, LIMITS, setting)
    assert (seconds, limit) == (pytest.approx(expected[0]), expected[1])


def limited(**work) -> Document:
    about = {**ABOUT, "limits": asdict(LIMITS), "work": {row: asdict(value) for row, value in work.items()}}
    return replace(DOCUMENT, about=about)


def test_shares_and_goals_name_the_rows_that_fall_short():
    document = limited(r=Work(read=4, written=16))
    share = summary.shares(document)["r"]
    assert share == summary.Share(pytest.approx((4 / 10 + 16 * 0.15) / 0.5), "memory")
    found = {goal.wanted.split(" >=")[0]: goal for goal in summary.goals(limited(r=Work(read=4)))}
    assert found["geometric mean against torch"].met and found["geometric mean against torch"].achieved == "8.00"
    by_hand = found["every row against numba"]
    assert not by_hand.met and by_hand.achieved == "1 of 2 rows" and by_hand.short == ("r 0.50",)
    assert "memory-bound rows" not in found                             # it fits into the cache
    text = report.goal_lines(limited(r=Work(read=10)))
    assert "MISSED" not in text.splitlines()[0] and "          r 0.50" in text.splitlines()


def test_table_shows_the_share_of_the_limit():
    header, row, *_ = report.ratio_table(limited(r=Work(read=10, flops=1))).splitlines()
    assert header.split()[:3] == ["row", "jitgrad", "limit"] and "2e+02% memory" in row


def test_one_thread_against_one_thread():
    assert harness.ratios(DOCUMENT, "1")["r"]["torch"].median == 8.0 / 3.0
    assert "2.67" in report.one_thread_table(DOCUMENT)


def test_means_by_family():
    means = summary.family_means(harness.ratios(DOCUMENT))
    assert means["r"]["numba"] == (0.5, 1) and means["all"]["numba"] == (pytest.approx(2 ** 0.5), 2)


def test_json_has_the_summary_and_loads_without_it(tmp_path: Path):
    document = limited(r=Work(read=10))
    document.save(tmp_path / "run.json", summary=summary.as_data(document))
    data = json.loads((tmp_path / "run.json").read_text())["summary"]
    assert data["ratios"]["one thread each"]["r"]["torch"]["setting"] == "1"
    assert data["shares"]["r"]["limit"] == "memory" and data["goals"] and data["means"]["all"]
    assert Document.load(tmp_path / "run.json") == document


def test_limits_are_measured_on_this_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "SECONDS", 0.0)
    monkeypatch.setattr(limits, "REPEATS", 2)
    monkeypatch.setattr(limits, "FMA_TURNS", 1000)
    found = limits.measure(2, cache=1 << 16)
    one, many = (asdict(found.speed(setting)) for setting in ("1", "all"))
    assert all(0.0 < one[name] <= many[name] < 1e15 for name in one)
    assert limits.Limits.of(json.loads(json.dumps(asdict(found)))) == found
    assert len(limits.table(found).splitlines()) == 4


def test_streams_of_the_limits_do_what_they_are_named_for():
    kernels, n = limits.Kernels(), 64 * limits.LANES
    first, second, target = limits.aligned(n), limits.aligned(n), limits.aligned(n)
    first[:], second[:] = np.arange(n), 3.0
    for name in ("copy", "copy_past_cache"):
        target[:] = 0.0
        limits.streams(kernels, name, [target, first], threads=2)[1]()
        assert not target[:n // 2].any() and (target[n // 2:] == first[n // 2:]).all()
    for name in ("triad", "triad_past_cache"):
        limits.streams(kernels, name, [target, first, second], threads=1)[0]()
        assert (target == first + 0.5 * second).all()
    limits.streams(kernels, "read", [target, first], threads=1)[0]()
    assert target[:limits.LANES].sum() == first.reshape(-1, limits.UNROLL, limits.LANES)[:, 3].sum()  # the last sum


# ---- memory

@pytest.mark.skipif(not memory.RESET.exists(), reason="no high-water mark that can be reset")
def test_memory_of_a_call_is_what_it_keeps_and_makes():
    peak = memory.measured("elementwise.rational 1e6 float64", "jitgrad", {"n": 4_000_000})
    assert peak.error is None and peak.told == pytest.approx(32e6, rel=0.01)
    assert peak.grown == pytest.approx(32e6, abs=memory.SLACK)


def test_memory_table_marks_where_jitgrad_takes_more():
    peaks = {"r": {"jitgrad": memory.Peak(100_000_000, 90_000_000), "jax": memory.Peak(50_000_000),
                   "torch": memory.Peak(200_000_000), "numba": memory.Peak(error="no")}}
    assert memory.table(peaks).splitlines()[1].split() == ["r", "100.0", "MB", "90.0", "MB", "0.5!", "2", "FAILED"]
    assert not memory.is_more(memory.Peak(51_000_000), memory.Peak(50_000_000))


# ---- timing and schedule, with a clock and engines of the test's own

class Clock:
    """Time that passes only when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def work(self, seconds: float) -> np.ndarray:
        self.now += seconds
        return np.ones(2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(harness, "time", fake)
    fake.perf_counter, fake.process_time = fake.read, fake.read
    return fake


def test_calibration_makes_a_sample_long_enough(clock: Clock):
    assert harness.calibrate(lambda: clock.work(1e-5)) == pytest.approx(200, abs=1)
    assert harness.calibrate(lambda: clock.work(1.0)) == 1


def test_rounds_fit_the_budget():
    assert harness.rounds_for(cost=0.1, budget=1.0, least=3, most=25) == 10
    assert harness.rounds_for(cost=9.0, budget=1.0, least=3, most=25) == 3
    assert harness.rounds_for(cost=0.0, budget=1.0, least=3, most=25) == 25


class HereWorker:
    """A worker without a process; it remembers who was sampled."""

    def __init__(self, setting: str, asked: list) -> None:
        self.session, self.asked = run.Session(setting), asked

    def ask(self, method: str, *arguments):
        self.asked.append((method, self.session.setting, *arguments[1:2]))
        try:
            return getattr(self.session, method)(*arguments)
        except ValueError as error:
            raise run.Failed(str(error)) from None


def test_rows_are_measured_in_turns(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    def refuse(engine: Engine) -> Callable:
        raise ValueError("no such operation")

    programs = {"jitgrad": lambda e: lambda: clock.work(1e-3), "torch": lambda e: lambda: clock.work(3e-3),
                "jax": lambda e: lambda: 2.0 * clock.work(5e-3), "numba": refuse}
    row = Row("family.fake", programs, lambda rng: (), own_arrays=False)
    monkeypatch.setattr(run, "ROWS", (row,))
    monkeypatch.setattr(run, "engine", lambda name, setting: replace(DIFFERENCES, name=name))
    asked: list = []
    workers = {setting: HereWorker(setting, asked) for setting in ("1", "all")}
    found = run.measure(row, workers, ["jitgrad", "torch", "jax", "numba"], quick=True)

    assert {m.error for m in found if m.engine == "numba"} == {"no such operation"}
    assert {m.engine for m in found if m.disagreement} == {"jax"}
    timed = [m for m in found if m.error is None]
    assert {len(m.seconds) for m in timed} == {9} and len(timed) == 6
    assert harness.ratios(Document({}, tuple(found)))["family.fake"]["torch"].median == pytest.approx(3.0)
    turns = [(key[1], key[2]) for key in asked if key[0] == "sample"]
    rounds = [tuple(turns[i:i + 6]) for i in range(0, len(turns), 6)]
    assert all(len(set(turn)) == 6 for turn in rounds)                  # everyone once in a round
    assert len({turn[0] for turn in rounds}) == 6                       # and everyone is first at times


def test_a_slow_peer_takes_part_in_two_rounds(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    programs = {"jitgrad": lambda e: lambda: clock.work(1e-3), "torch": lambda e: lambda: clock.work(5.0)}
    row = Row("family.slow", programs, lambda rng: (), own_arrays=False)
    monkeypatch.setattr(run, "ROWS", (row,))
    monkeypatch.setattr(run, "engine", lambda name, setting: replace(DIFFERENCES, name=name))
    found = run.measure(row, {"1": HereWorker("1", [])}, ["jitgrad", "torch"], quick=True)
    assert {m.engine: len(m.seconds) for m in found} == {"jitgrad": 9, "torch": run.SLOW_ROUNDS}


def test_a_result_that_is_changed_in_place_is_still_the_reference():
    array = np.ones(3)
    held, = harness.host_leaves(array, lambda x: x)
    array += 1.0
    assert (held == 1.0).all()


def test_fresh_rows_get_a_new_program_every_time(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    made = itertools.count()
    row = FreshRow("family.fresh", everyone(lambda e: lambda sample: lambda: clock.work(sample + next(made))))
    monkeypatch.setattr(run, "ROWS", (row,))
    monkeypatch.setattr(run, "engine", lambda name, setting: replace(DIFFERENCES, name=name))
    found, = run.measure(row, {"1": HereWorker("1", [])}, ["jitgrad"], quick=True)
    assert found.first == 0.0 and found.repetitions == 1
    assert found.seconds == pytest.approx([2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0])


def test_a_dead_worker_is_a_failed_question_and_a_new_worker():
    worker = run.Worker("1")
    try:
        with pytest.raises(run.Failed, match="KeyError"):
            worker.ask("load", "no such engine")
        worker.process.kill()
        with pytest.raises(run.Failed, match="the process died"):
            worker.ask("drop")
        assert worker.ask("drop") is None
    finally:
        worker.stop()
