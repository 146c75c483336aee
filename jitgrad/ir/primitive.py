"""Everything jitgrad knows about one operation, in one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .aval import Aval

# How a kernel computes an operation: `Primitive.code` is one of these.


@dataclass(frozen=True)
class Scalar:
    """out[i] = emit(emitter, x[i], y[i], ...): one element from the elements at the same place.

    `cost` is in units of an addition; it decides what is recomputed rather than stored.
    """

    emit: Callable
    cost: int = 1


@dataclass(frozen=True)
class Reduce:
    """out = x folded over the axes in `params["axes"]` by an associative `combine(emitter, a, b)` from `identity(dtype)`.

    `is_sum`: long sums of floats carry the rounding errors of their partial sums along.
    """

    combine: Callable
    identity: Callable
    is_sum: bool = False


@dataclass(frozen=True)
class View:
    """out reads x's memory: `strided(offset, shape, strides, **params)` in elements, or None when a copy is needed."""

    strided: Callable


@dataclass(frozen=True)
class Index:
    """out[i, j, ...] is the index along the axis `params["axis"]`: no operand."""


@dataclass(frozen=True)
class Gather:
    """out[i..., j...] = x[index0[i...], index1[i...], ..., j...]."""


@dataclass(frozen=True)
class ScatterAdd:
    """out = x, then out[index0[i...], ..., j...] += v[i..., j...], repeated indices adding up."""


@dataclass(frozen=True)
class Place:
    """out = zeros (or a join of several operands): each operand k is stored at `corners(**params)[k]`.

    `pieces(avals, **params)` gives (starts, steps) of each operand in the result.
    """

    pieces: Callable


@dataclass(frozen=True)
class Library:
    """A routine of its own, with operands and result in memory: its name among the backend's routines.

    A name that the backend does not know is called back on the host through the primitive's `reference`.
    """

    routine: str


@dataclass(frozen=True)
class Control:
    """A loop or a branch: parameters hold the graphs that it runs (see `body`)."""


@dataclass(frozen=True)
class Structure:
    """A part of a tuple, a stack, a push or a pop: no arithmetic, known to whoever lowers control flow."""


@dataclass(frozen=True)
class Leaf:
    """No code: inputs and constants."""


@dataclass(frozen=True)
class Samples:
    """Where the generated tests sample a primitive.

    `domain`: one (low, high) for all arguments, or one each. `cases`: (argument shapes, params) to try, an array in
    place of a shape being that argument itself; the default suits elementwise operations. `kinds`: dtype kinds that it
    takes, out of "f" (floats), "i" (integers), "b" (bool). `singular`: ((arguments...), (expected gradient of the
    result's sum per argument)) and, if there are any, params, at documented singular points.
    """

    domain: tuple = (-2.0, 2.0)
    cases: tuple = ()
    kinds: str = "f"
    singular: tuple = ()


@dataclass(frozen=True, eq=False)
class Primitive:
    """One operation. Primitives compare by identity; `PRIMITIVES` finds them by name.

    reference   NumPy's own computation, (*arrays, **params) -> array: the interpreter and the tests' oracle
    aval        (*avals, **params) -> Aval
    code        how a kernel computes it
    jvp         (tangents, primals, out, **params) -> tangent of out (None where an argument has no tangent)
    vjp         (cotangent, primals, out, **params) -> one cotangent or None per primal;
                both None: no derivative flows through (comparisons, integer operations)
    pull        (cotangent, totals, wanted, out) -> totals: the cotangents of the operands so far (None: none yet), with
                this node's shares added for those that are wanted. For operations that touch a small part of an operand
                or have several results (then `cotangent` is a dict by part)
    overwrites  (**params) -> places of the operands whose memory the result may take over: they are read by others first
    ufunc       the NumPy ufunc whose calls on traced arrays are this primitive, if there is one
    samples     where the generated tests try it
    doc         one line: what it computes
    """

    name: str
    reference: Callable
    aval: Callable[..., Aval]
    code: Any
    jvp: Callable | None = None
    vjp: Callable | None = None
    ufunc: np.ufunc | None = None
    samples: Samples = field(default_factory=Samples)
    doc: str = ""
    pull: Callable | None = None
    overwrites: Callable | None = None

    def __post_init__(self):
        if PRIMITIVES.setdefault(self.name, self) is not self:
            raise ValueError(f"primitive {self.name!r} is declared twice")

    def __repr__(self) -> str:
        return self.name


PRIMITIVES: dict[str, Primitive] = {}
