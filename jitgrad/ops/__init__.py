"""All operations, each declared by one record; importing this package fills `ir.primitive.PRIMITIVES`.

What derivatives are where functions have none (tested through `Samples.singular`):

abs, copysign         0 at 0 (the sign of 0)
maximum, minimum,     the side taken; one half to each side of a tie. Where the result is nan, maximum and
fmax, fmin            minimum give it to both sides; fmax and fmin give it to the side that is a number
reduce_max, _min      equal shares among the elements that equal the result; where that is nan, among all
floor, rint, sign,    none flows (0 wherever the derivative exists); nor through comparisons, floor_divide,
  ...                 argsort, integers, bools, and casts to and from them
remainder, fmod       1 in the dividend, minus the (constant) quotient in the divisor, also at the jumps
sqrt, cbrt, log, ...  what the formula gives: inf at 0
power                 x**y at x = 0: y x**(y-1), being 1 at y = 1 and 0 at y = 0; 0 in y. At x < 0: nan in y
integer_power         exact at 0
hypot, arctan2        0 at the origin
reduce_prod, cumprod  exact at zeros, at every order (products of the others, never a division)
stop_gradient         none flows
nextafter             1 in the first argument

Branches: where a cotangent is 0 because a value was not taken (select, maximum, slices, gather, ...), no
slope makes nan of it, at any order: see `masking`. A matrix product does sum 0 * inf of rows not taken, as
IEEE says.
"""

from ..ir.primitive import PRIMITIVES
from . import control, transcendental  # noqa: F401  (declare their records)
from .arithmetic import integer_power
from .cast import cast
from .comparison import select, stop_gradient
from .indexing import gather, scatter_add
from .linalg import matmul, matrix_transpose
from .masking import product as masked_product
from .reduction import reduce_max, reduce_min, reduce_prod, reduce_sum
from .scan import argsort, cumprod, cumsum, linear_recurrence
from .shape import (
    assemble,
    broadcast,
    broadcast_to,
    concatenate,
    iota,
    place,
    reshape,
    slice_axis,
    strided_slice,
    transpose,
    zeros,
)
from .stores import put, scatter_set

__all__ = [
    "argsort", "assemble", "broadcast", "broadcast_to", "cast", "concatenate", "cumprod", "cumsum",
    "gather", "integer_power", "iota", "linear_recurrence", "masked_product", "matmul", "matrix_transpose",
    "place", "reduce_max", "reduce_min", "reduce_prod", "reduce_sum", "reshape",
    "put", "scatter_add", "scatter_set", "select", "slice_axis", "stop_gradient", "strided_slice", "transpose", "zeros",
]  # fmt: skip

OWN = dict(PRIMITIVES)  # jitgrad's own operations: those declared before a user's code could declare any
