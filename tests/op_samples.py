"""Operands and derivatives of every primitive, from its declaration: what the generated tests share."""

from __future__ import annotations

import numpy as np

import jitgrad.runtime.compile  # noqa: F401  (declares all primitives)
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph
from jitgrad.ir.interpret import run
from jitgrad.ir.node import Node, apply, fresh_input, full, interning
from jitgrad.ir.primitive import PRIMITIVES, Control, Leaf, Primitive, Scalar, Structure
from jitgrad.ir.verify import verify

DTYPES = {"f": ("f8", "f4", "f2"), "i": ("i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1"), "b": ("?",)}
MADE_BY_LOWERING = {"copy", "into"}  # after all derivatives are taken
OF_PROGRAMS = (Leaf, Control, Structure)  # control flow: see test_control.py
NAMES = sorted(n for n, p in PRIMITIVES.items() if not isinstance(p.code, OF_PROGRAMS) and n not in MADE_BY_LOWERING)
ELEMENTWISE = [name for name in NAMES if isinstance(PRIMITIVES[name].code, Scalar)]
FLOATING = [name for name in NAMES if "f" in PRIMITIVES[name].samples.kinds]


# --- operands


def arity(primitive: Primitive) -> int:
    """The number of operands of an elementwise primitive."""
    if primitive.samples.cases:
        return len(primitive.samples.cases[0][0])
    return primitive.reference.nin if primitive.ufunc else 1


def cases(primitive: Primitive) -> tuple:
    return primitive.samples.cases or ((((5,),) * arity(primitive), {}),)


def domains(primitive: Primitive, count: int) -> list:
    domain = primitive.samples.domain
    return list(domain) if isinstance(domain[0], tuple) else [domain] * count


def sample(shape, dtype: np.dtype, domain, rng) -> np.ndarray:
    """Values inside `domain` (integers: small ones that suit any operation, exponents too)."""
    if isinstance(shape, np.ndarray):
        return shape
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0 if dtype.kind == "u" else -9, 10, shape)).astype(dtype)
    low, high = domain
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype)


def operands(primitive: Primitive, shapes, dtype, rng) -> list[np.ndarray]:
    given = domains(primitive, len(shapes))
    arrays = [
        sample(s, np.dtype(dtype), d, rng)
        for s, d in zip(shapes, given + given[-1:] * len(shapes), strict=False)
    ]
    if primitive.name == "power" and np.dtype(dtype).kind == "i":
        arrays[1] = np.abs(arrays[1])
    return arrays


def supports(primitive: Primitive, dtype, params: dict) -> bool:
    return not (np.dtype(dtype).kind != "f" and params.get("exponent", 0) < 0)


def inputs_for(arrays) -> tuple[Node, ...]:
    return tuple(fresh_input(aval_of(array.shape, array.dtype)) for array in arrays)


def evaluate(outputs, inputs, arrays) -> list[np.ndarray]:
    return run(verify(Graph(tuple(inputs), tuple(outputs))), arrays)


# --- derivatives


class Derivatives:
    """One primitive on one case: its value and derivatives as graphs over the same inputs, in float64."""

    def __init__(self, primitive: Primitive, shapes, params, rng):
        self.arrays = operands(primitive, shapes, "f8", rng)
        self.inputs = inputs_for(self.arrays)
        self.out = apply(primitive, *self.inputs, **params)
        self.active = [k for k, a in enumerate(self.arrays) if a.dtype.kind == "f"]
        self.x = [self.inputs[k] for k in self.active]
        self.points = [self.arrays[k] for k in self.active]
        self.rng = rng

    def random_like(self, nodes) -> list[np.ndarray]:
        return [np.asarray(self.rng.standard_normal(node.shape)) for node in nodes]

    def value(self, outputs, points, more=(), values=()) -> list[np.ndarray]:
        arrays = list(self.arrays)
        for k, point in zip(self.active, points, strict=True):
            arrays[k] = point
        return evaluate(outputs, (*self.inputs, *more), [*arrays, *values])

    def differences(self, outputs, tangents, more=(), values=(), step=1e-6) -> list[np.ndarray]:
        """Central differences of `outputs` along `tangents`."""
        ahead = self.value(
            outputs, [p + step * t for p, t in zip(self.points, tangents, strict=True)], more, values
        )
        behind = self.value(
            outputs, [p - step * t for p, t in zip(self.points, tangents, strict=True)], more, values
        )
        return [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]


def or_zeros(nodes, like) -> list[Node]:
    return [full(0.0, x.aval) if n is None else n for n, x in zip(nodes, like, strict=True)]


def floating_cases(name: str):
    """The derivatives of every case of a primitive whose result is float64."""
    primitive, rng = PRIMITIVES[name], np.random.default_rng(7)
    for shapes, params in cases(primitive):
        with interning():
            made = Derivatives(primitive, shapes, params, rng)
            if made.out.dtype == np.float64 and made.active:
                yield made, (name, shapes, params)
