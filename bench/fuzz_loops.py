"""Random programs of loops, branches and stores: compiled, interpreted and as plain Python, values and gradients.

    python bench/fuzz_loops.py --minutes 5 [--seed 0] [--second]

Each program is Python source: nested `for` and `while`, `if`, `break`, `continue`, early `return`, stores at moving,
constant and overlapping places, slices. Gradients are compared with the complex step: plain Python on complex
numbers, whose real parts decide branches (Squire and Trapp, "Using complex variables to estimate derivatives of real
functions", 1998). `--second` compares gradients of gradients with differences. A program that fails is printed.
"""

from __future__ import annotations

import argparse
import linecache
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import jitgrad  # noqa: E402

SIZE = 6
STEPS = (3, 9, 10, 12)  # below and above the number from which on loops are rolled


class Writer:
    """Writes one random function of a vector `x` of four numbers."""

    def __init__(self, rng: np.random.Generator):
        self.rng, self.lines, self.statements = rng, [], 0
        self.counters: list[str] = []
        self.names = ["a", "b", "c"]
        self.budget = int(rng.integers(6, 22))
        self.work = 1  # how often a statement is done

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)
        self.statements += 1

    def index(self) -> str:
        if self.counters and self.rng.random() < 0.7:
            i = self.pick(self.counters)
            return self.pick([f"({i} + {int(self.rng.integers(4))}) % {SIZE}", f"{i} % {SIZE}", f"({i} * 2 + 1) % {SIZE}"])
        return str(int(self.rng.integers(-SIZE, SIZE)))

    def value(self, depth: int = 0) -> str:
        options = [self.pick(self.names), f"y[{self.index()}]", f"x[{int(self.rng.integers(4))}]", f"{self.rng.normal():.3f}"]
        if self.counters:
            options.append(f"0.1 * {self.pick(self.counters)}")
        if depth < 2:
            one, other = self.value(depth + 1), self.value(depth + 1)
            options += [
                f"np.sin({one} + {other})", f"np.tanh({one}) * {other}", f"0.5 * ({one}) - ({other})",
                f"np.cos({one} * {other})", f"np.exp(-({one}) ** 2)", f"({one}) / (2.0 + np.cos({other}))",
                f"(({one}) if {self.condition()} else ({other}))",
            ]  # fmt: skip
        return self.pick(options)

    def condition(self) -> str:
        name = self.pick(self.names + [f"y[{self.index()}]"])
        options = [f"re({name}) > {self.rng.normal():.2f}", f"re({name}) < re({self.pick(self.names)})"]
        if self.counters:
            i = self.pick(self.counters)
            options += [f"{i} % 2 == 0", f"{i} > 2 and re({name}) > 0", f"re({name}) > 0.3 or {i} == 1", f"0 < {i} < 5"]
        return self.pick(options)

    def block(self, depth: int, in_loop: bool) -> None:
        for _ in range(int(self.rng.integers(1, 4))):
            self.statement(depth, in_loop)

    def statement(self, depth: int, in_loop: bool) -> None:
        self.budget -= 1
        kinds = ["assign", "assign", "store", "add"]
        if self.budget > 0 and depth < 5:
            kinds += ["if", "if"] + (["for", "for", "while"] if self.work < 300 else [])
        if depth == 1:
            kinds += ["slice", "slice"]
        if in_loop and depth > 2:
            kinds += ["break", "continue"]
        match self.pick(kinds):
            case "assign":
                self.line(depth, f"{self.pick(self.names)} = {self.value()}")
            case "store":
                self.line(depth, f"y[{self.index()}] = {self.value()}")
            case "add":
                target = self.pick([f"y[{self.index()}]", self.pick(self.names)])
                self.line(depth, f"{target} += {self.value()}")
            case "slice":
                text = self.pick([
                    "y[1:4] = y[0:3] * 0.5 + y[2:5]", "y[::2] *= 0.9", "y[1:] += 0.1 * y[:-1]", "y[::-1] = y * 1.0",
                    "y = y * 0.9 + b", "y[[0, 2]] = y[[2, 0]]",
                ])  # fmt: skip
                self.line(depth, text)
            case "if":
                self.line(depth, f"if {self.condition()}:")
                self.block(depth + 1, in_loop)
                if self.rng.random() < 0.5:
                    self.line(depth, "else:")
                    self.block(depth + 1, in_loop)
            case "for":
                self.loop(depth, self.pick(STEPS))
            case "while":
                self.repeat(depth)
            case jump:
                self.line(depth, f"if {self.condition()}:")
                self.line(depth + 1, jump if self.rng.random() < 0.9 or depth > 4 else "return a * b + y[1]")

    def loop(self, depth: int, count: int) -> None:
        i = f"i{len(self.counters)}"
        bounds = self.pick([f"{count}", f"1, {count}", f"{count}, 0, -1", f"0, {2 * count}, 2"])
        if self.counters and self.rng.random() < 0.4:
            bounds = self.pick([f"{self.counters[-1]}", f"{self.counters[-1]} + 1"])
        self.line(depth, f"for {i} in range({bounds}):")
        self.inside(depth, i, count)

    def inside(self, depth: int, i: str, count: int) -> None:
        self.counters.append(i)
        self.work *= count
        self.block(depth + 1, True)
        self.work //= count
        self.counters.pop()

    def repeat(self, depth: int) -> None:
        i = f"i{len(self.counters)}"
        self.line(depth, f"{i} = 0")
        self.line(depth, f"while {i} < 9 and re({self.pick(self.names)}) < 1.5:")
        self.line(depth + 1, f"{i} += 1")
        self.inside(depth, i, 9)

    def source(self) -> str:
        self.lines = ["def program(x):"]
        self.line(1, "a, b, c = x[0] * 1.0, x[1] * 0.5, 0.3 + x[2]")
        self.line(1, f"y = np.concatenate([x, x[:{SIZE - 4}] * 0.7])")
        while self.budget > 0:
            self.statement(1, False)
        self.line(1, "return a + b * c + sum_of(y * y)")
        return "\n".join(self.lines) + "\n"


def re(value):
    """The real part, which decides branches."""
    return value.real


def sum_of(y):
    return np.sum(y)


def made(source: str, name: str):
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space = {"np": np, "re": re, "sum_of": sum_of}
    exec(compile(source, name, "exec"), space)
    return space["program"]


def by_complex_step(program, x: np.ndarray) -> np.ndarray:
    step = 1e-30
    found = np.empty(x.size)
    for k in range(x.size):
        moved = x.astype(complex)
        moved[k] += 1j * step
        found[k] = np.imag(program(moved)) / step
    return found


def check(seed: int, second: bool) -> tuple[int, str | None]:
    """(statements, what is wrong) of the program with this seed."""
    rng = np.random.default_rng(seed)
    writer = Writer(rng)
    source = writer.source()
    program = made(source, f"<fuzz {seed}>.py")
    x = rng.normal(size=4)
    with np.errstate(all="ignore"):
        expected, slope = program(x.copy()), by_complex_step(program, x)
    if not np.isfinite(expected) or not np.isfinite(slope).all() or max(abs(expected), abs(slope).max()) > 1e6:
        return 0, None
    try:
        wrong = compared(program, x, expected, slope)
        if wrong is None and second:
            wrong = compared_second(program, x)
    except Exception as error:  # whatever it is, it is to be looked at
        wrong = f"{type(error).__name__}: {error}"
    linecache.cache.pop(f"<fuzz {seed}>.py", None)
    return writer.statements, None if wrong is None else f"seed {seed}: {wrong}\n{source}"


def compared(program, x: np.ndarray, expected, slope: np.ndarray) -> str | None:
    for tier in ("compile", "interpret"):
        value, gradient = jitgrad.value_and_grad(program, tier=tier)(x)
        if not np.allclose(value, expected, rtol=1e-9, atol=1e-10):
            return f"{tier}: value {value} for {expected}"
        if not np.allclose(gradient, slope, rtol=1e-7, atol=1e-8 * (1 + abs(slope).max())):
            return f"{tier}: gradient {gradient} for {slope}"
    return None


def compared_second(program, x: np.ndarray) -> str | None:
    """The gradient of a sum of gradients, by differences of complex steps: only where these agree among themselves."""
    weights = np.array([1.0, -0.5, 0.25, 2.0])

    def directional(x):
        return np.sum(jitgrad.grad(program)(x) * weights)

    found = jitgrad.jit(jitgrad.grad(directional))(x)
    estimates = []
    for step in (1e-5, 2e-5):
        columns = [by_complex_step(program, x + step * e) - by_complex_step(program, x - step * e) for e in np.eye(4)]
        estimates.append(np.array([column @ weights / (2 * step) for column in columns]))
    scale = 1 + abs(estimates[0]).max()
    if not np.allclose(estimates[0], estimates[1], rtol=1e-4, atol=1e-4 * scale):
        return None  # a branch changes nearby
    return None if np.allclose(found, estimates[0], rtol=1e-3, atol=1e-3 * scale) else f"second: {found} for {estimates[0]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--second", action="store_true")
    options = parser.parse_args()
    started, seed, statements, failures, programs = time.perf_counter(), options.seed, 0, 0, 0
    while time.perf_counter() - started < 60 * options.minutes:
        count, wrong = check(seed, options.second and seed % 4 == 0)
        seed, statements, programs = seed + 1, statements + count, programs + bool(count)
        if wrong is not None:
            failures += 1
            print(wrong, flush=True)
    print(f"{programs} programs, {statements} statements, {failures} failures; next seed {seed}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
