"""Measure jitgrad against its peers: `python bench/run.py --quick`. See bench/README.md."""
from __future__ import annotations

import argparse
import contextlib
import gc
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

if __name__ == "__main__":      # the root, not the script's folder, so that `bench` and `jitgrad` are found
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench import harness, limits, report, summary
from bench.harness import Document, Measurement
from bench.rows import FAMILIES, ROWS, engines
from bench.rows.row import SETTINGS, AnyRow, Engine, Row

# XLA ignores its flags for the intra-op pool (it used 1.7 cores with both set), so one core is also pinned.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                                     "NUMBA_NUM_THREADS", "JITGRAD_THREADS")}
ONE_THREAD["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
ENVIRONMENT = {"1": ONE_THREAD, "all": {}}

ANSWER_SECONDS = 300        # a worker that is silent for so long is taken for hung

SLOW_ROUNDS = 2             # for a peer whose sample takes a quarter of the row's seconds

# seconds per row, least and most rounds
BUDGET = {True: (0.8, 3, 9), False: (8.0, 3, 25)}


# ---- in the worker's process

@cache
def engine(name: str, setting: str) -> Engine:
    """The engine, ready: its library has computed a gradient, so that no row pays for its initialisation."""
    found = engines.load(name, 1 if setting == "1" else usable_cores())
    if name == "numba":
        found.jit(lambda x: x + 1.0)(1.0)
    else:
        found.jit(found.grad(lambda x: found.np.sum(x * x)))(found.arrays(harness.np.ones(3)))
    return found


class Session:
    """What a worker holds between two questions: the prepared programs of the current row."""

    def __init__(self, setting: str) -> None:
        self.setting = setting
        self.rows = {row.name: row for row in ROWS}
        self.drop()

    def drop(self) -> None:
        """Forget the row."""
        self.prepared: dict[str, tuple] = {}
        self.reference: list | None = None
        gc.collect()

    def load(self, name: str) -> None:
        """Import an engine's library."""
        engine(name, self.setting)

    def prepare(self, row: str, name: str) -> tuple[Measurement, float]:
        """The first call, its agreement with the row's reference, and the seconds that a sample will take."""
        program, found = self.rows[row], engine(name, self.setting)
        thunks = program.thunks(found)
        thunk, results = thunks(0), []
        first, _ = harness.timed(lambda: results.append(thunk()))
        result = harness.host_leaves(results.pop(), found.host)
        self.reference = result if self.reference is None else self.reference
        differs = harness.disagreement(result, self.reference)   # now: a step in place changes its result
        repetitions = harness.calibrate(thunk) if program.repeats else 1
        cost = first if not program.repeats else harness.timed(thunk, repetitions)[0]
        self.prepared[name] = (thunks, repetitions, program.repeats and cost / repetitions < 0.02)
        return Measurement(row, name, self.setting, first, repetitions, disagreement=differs), cost

    def sample(self, row: str, name: str, number: int) -> tuple[float, float]:
        """Seconds per call and cores, of the `number`-th sample."""
        if name not in self.prepared:                           # the worker was started anew within the row
            self.prepare(row, name)
        thunks, repetitions, warm = self.prepared[name]
        return harness.sample(thunks(number), repetitions, warm=warm, settle=harness.SETTLE_SECONDS[self.setting])


def serve(pipe, setting: str) -> None:
    """Answer questions (method of `Session`, arguments) with ("ok", answer) or ("error", text)."""
    if setting == "1" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    session = Session(setting)
    while True:
        try:
            method, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("ok", getattr(session, method)(*arguments)))
        except Exception as error:                              # a failed row is a result; the run goes on
            traceback.print_exc()
            pipe.send(("error", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))


# ---- in the parent's process

class Failed(Exception):
    """A question that a worker answered with an error, or not at all."""


class Worker:
    """A process with one thread setting, fixed before any library is imported there."""

    def __init__(self, setting: str) -> None:
        self.setting = setting
        self.cache = tempfile.TemporaryDirectory(prefix="bench-cache-")   # or a first call would be a second
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.setting), daemon=True)
        with environment(ENVIRONMENT[self.setting] | {"JITGRAD_CACHE_DIR": self.cache.name}):
            self.process.start()
        theirs.close()

    def ask(self, *question):
        """The answer.

        Raises:
            Failed: the worker reports an error, or it died or hung, in which case there is a new one now.
        """
        try:
            self.pipe.send(question)
            if not self.pipe.poll(ANSWER_SECONDS):
                raise self.failed(f"no answer for {ANSWER_SECONDS} s")
            status, answer = self.pipe.recv()
        except (EOFError, OSError):                     # the other end is closed: nobody is there any more
            raise self.failed("the process died") from None
        if status == "error":
            raise Failed(answer)
        return answer

    def failed(self, why: str) -> Failed:
        """Why there is no answer, after a new process has been started."""
        self.process.kill()
        self.process.join()
        self.start()
        return Failed(why)

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(10)
        self.process.kill()


@contextlib.contextmanager
def environment(values: dict[str, str]):
    """The process's environment with these values, for the processes started meanwhile."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def measure(row: AnyRow, workers: dict[str, Worker], names: list[str], quick: bool) -> list[Measurement]:
    """All measurements of a row: prepare everyone, then rounds in which each engine has its turns."""
    done: dict[tuple[str, str], Measurement] = {}
    costs: dict[tuple[str, str], float] = {}
    for setting in (s for s in row.settings if s in workers):
        # jitgrad last: the first engine is the row's reference
        for name in sorted((n for n in names if n in row.programs), key=harness.BASE.__eq__):
            try:
                done[name, setting], seconds = workers[setting].ask("prepare", row.name, name)
                costs[name, setting] = seconds
            except Failed as error:
                done[name, setting] = Measurement(row.name, name, setting, error=str(error))
    turns = [key for key, m in done.items() if m.error is None]
    quicker = [key for key in turns if key[0] == harness.BASE or costs[key] < BUDGET[quick][0] / 4]
    for number in range(harness.rounds_for(sum(costs[key] for key in quicker), *BUDGET[quick])):
        turns = turns if number < SLOW_ROUNDS else quicker
        for key in [*turns[number % len(turns):], *turns[:number % len(turns)]] if turns else ():
            done[key] = with_sample(done[key], workers[key[1]], number + 1)
    for setting in workers:
        with contextlib.suppress(Failed):
            workers[setting].ask("drop")
    return list(done.values())


def with_sample(m: Measurement, worker: Worker, number: int) -> Measurement:
    if m.error is not None:
        return m
    try:
        seconds, cores = worker.ask("sample", m.row, m.engine, number)
    except Failed as error:
        return replace(m, error=str(error), seconds=(), cores=())
    return replace(m, seconds=(*m.seconds, seconds), cores=(*m.cores, cores))


def chosen_rows(patterns: str | None, quick: bool) -> list[AnyRow]:
    """The rows whose name starts with one of the patterns, all if none is given."""
    prefixes = tuple(patterns.split(",")) if patterns else ("",)
    return [row for row in ROWS if row.name.startswith(prefixes) and (row.quick or not quick)]


def usable_engines(worker: Worker, names: list[str]) -> list[str]:
    """Those engines whose library the worker could import; a line is printed for each of the others."""
    usable = []
    for name in names:
        try:
            worker.ask("load", name)
            usable.append(name)
        except Failed as error:
            print(f"without {name}: {error}", flush=True)
    return usable


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def about(names: list[str], rows: list[AnyRow], options: argparse.Namespace) -> dict:
    """Where, when and with what the run was made, what the rows must do at least and what the machine can do at most."""
    versions = {name: engines.version(name) or "in the tree" for name in [*names, "numpy", "llvmlite"]}
    return {"cpu": processor(), "cores": usable_cores(), "python": platform.python_version(),
            "platform": platform.platform(), "date": time.strftime("%Y-%m-%d %H:%M %z"), "versions": versions,
            "quick": options.quick, "environment": ENVIRONMENT, "load_before": os.getloadavg(),
            "work": {row.name: asdict(row.work(**row.size)) for row in rows if isinstance(row, Row) and row.work},
            "limits": asdict(limits.measure(usable_cores()))}


def options_from(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=",".join(engines.PEERS),
                        help=f"comma-separated, '' for jitgrad alone; {', '.join(engines.OPTIONAL)} only if named")
    parser.add_argument("--rows", help="comma-separated families or beginnings of row names; all rows if left out. "
                        "Families: " + ", ".join(FAMILIES))
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, about 15 minutes")
    parser.add_argument("--threads", choices=SETTINGS, help="one thread setting only; both if left out")
    parser.add_argument("--json", help="write every sample to this file")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 1 if engines disagree, or if jitgrad failed or could not be imported."""
    options = options_from(arguments)
    rows = chosen_rows(options.rows, options.quick)
    if options.list:
        print("\n".join(row.name for row in rows))
        return 0
    workers = {setting: Worker(setting) for setting in SETTINGS if options.threads in (None, setting)}
    wanted = [harness.BASE, *filter(None, options.peers.split(","))]
    names = usable_engines(next(iter(workers.values())), wanted)
    description, measurements = about(names, rows, options), []
    for row in rows:
        started = time.perf_counter()
        found = measure(row, workers, names, options.quick)
        measurements += found
        troubles = report.troubles(Document({}, tuple(found)))
        print(f"{row.name}: {time.perf_counter() - started:.1f} s", *troubles, sep="\n  ", flush=True)
    for worker in workers.values():
        worker.stop()
    document = Document(description | {"load_after": os.getloadavg()}, tuple(measurements))
    print("", report.report(document), sep="\n")
    if options.json:
        document.save(options.json, summary=summary.as_data(document))
    bad = any(m.disagreement or (m.error and m.engine == harness.BASE) for m in measurements)
    return int(bad or harness.BASE not in names)


if __name__ == "__main__":
    sys.exit(main())
