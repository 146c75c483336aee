"""Matrix products."""

from __future__ import annotations

import numpy as np

from ..errors import InternalError
from ..ir.aval import Aval, aval_of
from ..ir.node import Node, apply
from ..ir.primitive import Library, Primitive, Samples
from .families import total
from .shape import transpose


def _matmul_aval(a: Aval, b: Aval) -> Aval:
    fits = a.ndim == b.ndim >= 2 and a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2]
    if not fits or a.dtype != b.dtype or a.dtype.kind != "f":
        raise InternalError(f"matmul of {a} and {b}")
    return aval_of((*a.shape[:-1], b.shape[-1]), a.dtype)


def matrix_transpose(x: Node) -> Node:
    """x with its last two axes exchanged."""
    n = x.ndim
    return transpose(x, (*range(n - 2), n - 1, n - 2))


# C = A B:    dC = dA B + A dB;    with the cotangent G of C: G B^T for A, A^T G for B
def _matmul_jvp(tangents, primals, out):
    (da, db), (a, b) = tangents, primals
    return total((None if da is None else matmul(da, b), None if db is None else matmul(a, db)))


def _matmul_vjp(cotangent, primals, out):
    a, b = primals
    return [matmul(cotangent, matrix_transpose(b)), matmul(matrix_transpose(a), cotangent)]


MATMUL = Primitive(
    "matmul",
    reference=np.matmul,
    aval=_matmul_aval,
    code=Library("matmul"),
    jvp=_matmul_jvp,
    vjp=_matmul_vjp,
    samples=Samples(
        cases=tuple(
            (shapes, {})
            for shapes in (
                ((2, 3), (3, 4)),
                ((1, 3), (3, 1)),
                ((2, 2, 3), (2, 3, 1)),
                ((2, 0), (0, 3)),
                ((0, 2), (2, 3)),
                ((0, 2, 2), (0, 2, 2)),
            )
        )
    ),
    doc="`numpy.matmul` of [..., M, K] and [..., K, N], floats of one dtype.",
)


def matmul(a: Node, b: Node) -> Node:
    """The matrix product over the last two axes; the leading axes are equal."""
    return apply(MATMUL, a, b)
