"""What a benchmark row is: a name, the data, and one builder for each engine that can do it."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy

SETTINGS = ("1", "all")

# Largest difference that engines may show, relative to the largest entry of the reference.
AGREEMENT = {"float64": 1e-9, "float32": 2e-4}


@dataclass(frozen=True)
class Engine:
    """One library behind a common face: its namespace, its transforms, its arrays.

    `forward` is what is to be done with a function before it is differentiated by hand-written calls of the
    library (`torch.compile`).
    `np` is what a program says instead of NumPy, `library` the module with the rest (`jax.nn`, ...).
    `arrays` takes an ndarray to the engine's own array, `host` takes one back; `wait` returns its argument
    when the values are there, and is None where every call already does.
    """
    name: str
    library: Any
    np: Any
    grad: Callable
    value_and_grad: Callable
    jit: Callable
    arrays: Callable = numpy.array
    host: Callable = numpy.asarray
    wait: Callable | None = None
    forward: Callable = lambda function: function
    threads: int = 1


Builder = Callable[..., Callable]


@dataclass(frozen=True)
class Work:
    """What any program for a row must do at least: bytes from and to memory, and floating-point operations.

    Every array that goes in is read once, every array that comes out is written once; a multiply-add counts as
    two operations, a function like exp as `FUNCTION` (about what a polynomial of one ulp takes).
    """
    read: int = 0
    written: int = 0
    flops: int = 0
    dtype: str = "float64"


FUNCTION = 20       # floating-point operations of an exp, log, sin, tanh


@dataclass(frozen=True)
class Row:
    """A program whose time, once it is compiled, is the number of interest.

    Args:
        name: "family.program and size", unique in the catalogue.
        programs: engine name -> builder; `builder(engine)` is the function that is timed.
        inputs: `inputs(rng, **size)` -> the function's arguments as NumPy data.
        size: what `inputs` is called with in a measurement; `tiny` replaces entries of it in tests.
        own_arrays: arguments and results are the engine's own arrays; if not, they are ndarrays for everyone.
        quick: whether the row belongs to the short run.
        settings: the thread settings under which the row is measured.
        work: `work(**size)` -> the least that must be moved and computed; None where that is not the point.
    """
    name: str
    programs: Mapping[str, Builder]
    inputs: Callable[..., tuple]
    size: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    own_arrays: bool = True
    quick: bool = True
    settings: tuple[str, ...] = SETTINGS
    work: Callable[..., Work] | None = None
    repeats = True

    def thunks(self, engine: Engine, **size: Any) -> Callable[[int], Callable]:
        """A function of the sample's number that gives what is timed: here the same call every time."""
        call = self.programs[engine.name](engine)
        arguments = self.inputs(numpy.random.default_rng(0), **{**self.size, **size})
        if self.own_arrays:
            thunk = waiting(engine, call, map_leaves(engine.arrays, arguments))
        else:
            thunk = partial(call, *arguments)
        return lambda sample: thunk


@dataclass(frozen=True)
class FreshRow:
    """A program of which every call is a first one: a new function, a new size, a new process.

    `builder(engine, **size)` gives a function of the sample's number; that gives the call to be timed, once.
    Sample 0 is the warm-up. Other arguments as in `Row`.
    """
    name: str
    programs: Mapping[str, Builder]
    size: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = True
    settings: tuple[str, ...] = SETTINGS
    repeats = False

    def thunks(self, engine: Engine, **size: Any) -> Callable[[int], Callable]:
        """A function of the sample's number that gives what is timed."""
        return self.programs[engine.name](engine, **{**self.size, **size})


AnyRow = Row | FreshRow


def everyone(program: Builder, **special: Builder | None) -> dict[str, Builder]:
    """`program` for the four autograd libraries; a keyword replaces, adds or drops one."""
    programs = dict.fromkeys(("jitgrad", "autograd", "torch", "jax"), program) | special
    return {name: builder for name, builder in programs.items() if builder is not None}


def keeping_dtype(programs: dict[str, Builder], dtype: str) -> dict[str, Builder]:
    """The programs without HIPS autograd's in float32, where its rule for a mean computes in float64."""
    return {name: builder for name, builder in programs.items() if (name, dtype) != ("autograd", "float32")}


def waiting(engine: Engine, call: Callable, arguments: tuple) -> Callable[[], Any]:
    """The call with its arguments bound, which returns when the values are there.

    A partial is called from C: it adds 30 ns where a lambda would add 60.
    """
    if engine.wait is None:
        return partial(call, *arguments)
    wait = engine.wait
    return lambda: wait(call(*arguments))


def map_leaves(function: Callable, tree: Any) -> Any:
    """`tree` (dicts, lists and tuples) with `function` applied to its ndarrays; other leaves stay."""
    if isinstance(tree, dict):
        return {key: map_leaves(function, child) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(map_leaves(function, child) for child in tree)
    return function(tree) if isinstance(tree, numpy.ndarray) else tree


def leaves(tree: Any) -> list:
    """The leaves of dicts (by sorted key), lists and tuples, in order."""
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, list | tuple):
        return [leaf for child in tree for leaf in leaves(child)]
    return [tree]
