"""Products in derivatives that do not make nan out of the side not taken.

`where(x > 0, log(x), 0)` sends the cotangent 0 into `log` wherever x <= 0, and the chain rule there reads 0 *
inf. What is meant is 0: no derivative flows. So slopes that can be infinite or nan meet cotangents (tangents,
in forward mode) in `masked_product`, which is 0 wherever the cotangent is 0. Its own derivatives are those of
the plain product, whether the cotangent is 0 or not: a mask in the value must not become a mask in the second
derivative.

Two things decide whether a product is masked:
- the operation is declared `singular`: its slope is infinite or nan at finite arguments (sqrt, log, divide,
  power);
- the cotangent may hold zeros that stand for "not taken" (`may_vanish`): then even a multiplication is
  masked, as in `where(x > 0, x * log(x), 0)`. Where no branch and no indexing is involved, products stay
  plain.
"""

from __future__ import annotations

import numpy as np

from ..ir.aval import Aval
from ..ir.node import Node, apply, constant_value
from ..ir.primitive import Primitive, Samples, Scalar
from ..transforms.vanishing import may_vanish


def _reference(x: np.ndarray, y: np.ndarray, *, both: int) -> np.ndarray:
    flows = x.astype(bool)
    if both:
        flows = flows & y.astype(bool)
    out = np.zeros(x.shape, x.dtype)
    return np.multiply(x, y, out, where=flows)


def _aval(x: Aval, y: Aval, *, both: int) -> Aval:
    return x


def _emit(e, x, y, *, both):
    zero = e.like(x, 0)
    flows = e.ne(x, zero)
    if both:
        flows = e.and_(flows, e.ne(y, zero))
    return e.select(flows, e.mul(x, y), zero)


# p(x, y) = x y, and 0 where x = 0.    dp = p(dx, y) + q(x, dy)
# q(x, y) = x y, and 0 where x = 0 or y = 0 (both are cotangents or tangents).    dq = q(dx, y) + q(x, dy)
# Neither derivative has the mask in it: dp/dx = y also where x = 0. What is masked in dp is the new tangent:
# a tangent of 0 contributes nothing, however steep the slope.


def _jvp(tangents, primals, out, *, both):
    (dx, dy), (x, y) = tangents, primals
    left = None if dx is None else product(dx, y, both)
    right = None if dy is None else product(x, dy, 1)
    return left if right is None else right if left is None else left + right


def _vjp(cotangent, primals, out, *, both):
    x, y = primals
    return [product(cotangent, y, both), product(x, cotangent, 1)]


MASKED_PRODUCT = Primitive(
    "masked_product",
    reference=_reference,
    aval=_aval,
    code=Scalar(_emit, cost=2),
    jvp=_jvp,
    vjp=_vjp,
    samples=Samples(
        cases=((((5,), (5,)), {"both": 0}), (((5,), (5,)), {"both": 1})),
        singular=(
            ((0.0, np.inf), (np.inf, 0.0), {"both": 0}),  # the slope of the first argument is there at 0
            ((0.0, 3.0), (3.0, 0.0), {"both": 1}),
        ),
    ),
    doc="x * y, but 0 where x is 0 (with both=1: where either is 0): how slopes meet cotangents.",
)


def product(x: Node, y: Node, both: int = 0) -> Node:
    """`masked_product`, or the plain product where a constant decides that no mask is needed.

    >>> from jitgrad.ir.aval import aval_of
    >>> from jitgrad.ir.graph import Graph
    >>> from jitgrad.ir.interpret import run
    >>> from jitgrad.ir.node import fresh_input, interning
    >>> with interning():
    ...     x, y = fresh_input(aval_of((2,), "f8")), fresh_input(aval_of((2,), "f8"))
    ...     graph = Graph((x, y), (product(x, y), x * y))
    >>> run(graph, [np.array([0.0, 2.0]), np.array([np.inf, 3.0])])
    [array([0., 6.]), array([nan,  6.])]
    """
    known_x, known_y = constant_value(x), constant_value(y)
    if both:
        plain = _is_ordinary(known_x) or _is_ordinary(known_y)
    else:
        plain = (known_x is not None and known_x != 0) or (known_y is not None and np.isfinite(known_y))
    if plain:
        return x * y
    return apply(MASKED_PRODUCT, x, y, both=both)


def _is_ordinary(known) -> bool:
    return known is not None and known != 0 and bool(np.isfinite(known))


def chain(factor: Node, slope: Node, singular: bool = False) -> Node:
    """factor * slope, the chain rule's product of a cotangent or tangent with a slope."""
    if singular or may_vanish(factor):
        return product(factor, slope)
    return factor * slope
