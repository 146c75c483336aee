"""Conversion between dtypes, and copies."""

from __future__ import annotations

import numpy as np

from ..ir.aval import Aval, aval_of
from ..ir.node import Node, apply, constant_value, full
from ..ir.primitive import Primitive, Samples, Scalar
from .families import elementwise

_HALF, _SINGLE, _DOUBLE = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)


def _emit(e, x, *, dtype):
    source, dtype = x.dtype, np.dtype(dtype)
    if source == dtype:
        return x
    if source == _HALF and dtype not in (_SINGLE, np.bool_):
        return e.cast(e.cast(x, _SINGLE), dtype)
    if dtype == _HALF:
        return e.cast(_to_odd_single(e, x) if source == _DOUBLE else e.cast(x, _SINGLE), _HALF)
    return e.cast(x, dtype)


def _to_odd_single(e, x):
    """float64 to float32, rounded to odd: a second rounding, to float16, then is as if it were the only one.

    S. Boldo, G. Melquiond: Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to
    odd. IEEE Transactions on Computers 57 (2008).
    """
    near = e.cast(x, _SINGLE)
    back = e.cast(near, _DOUBLE)
    bits = e.bitcast(near, np.dtype(np.int32))
    one, zero = e.like(bits, 1), e.like(bits, 0)
    towards_zero = e.sub(bits, e.select(e.gt(e.abs(back), e.abs(x)), one, zero))
    odd = e.or_(towards_zero, e.select(e.ne(back, x), one, zero))
    return e.bitcast(odd, _SINGLE)


def _aval(x: Aval, *, dtype) -> Aval:
    return aval_of(x.shape, dtype)


# Between floats: linear, d = cast(dx), and the cotangent is cast back. To or from integers and bools: nothing
# flows.
def _jvp(tangents, primals, out, *, dtype):
    flows = tangents[0] is not None and out.dtype.kind == "f"
    return cast(tangents[0], dtype) if flows else None


def _vjp(cotangent, primals, out, *, dtype):
    source = primals[0].dtype
    return [cast(cotangent, source) if source.kind == "f" and out.dtype.kind == "f" else None]


_CAST = elementwise(
    "cast",
    numpy=lambda x, *, dtype: x.astype(dtype),
    emit=_emit,
    jvp=_jvp,
    vjp=_vjp,
    aval=_aval,
    own_half=True,
    samples=Samples(
        kinds="fib",
        cases=tuple(
            (((5,),), {"dtype": np.dtype(d)}) for d in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?")
        ),
    ),
    doc="`astype`: floats to integers truncate; to bool is `!= 0`.",
)


def cast(x: Node, dtype) -> Node:
    """x as `dtype`: x itself where it has that dtype already."""
    dtype = np.dtype(dtype)
    if dtype == x.dtype:
        return x
    known = constant_value(x)
    if known is not None:
        with np.errstate(all="ignore"):
            return full(known.astype(dtype), aval_of(x.shape, dtype))
    return apply(_CAST, x, dtype=dtype)


# --- copy: no derivative, as it is put in after all of them are taken

COPY = Primitive(
    "copy",
    reference=lambda x: x.copy(),
    aval=lambda x: x,
    code=Scalar(lambda emit, x: x, cost=0),
    doc="x again, in memory of its own (made by lowering only).",
)
