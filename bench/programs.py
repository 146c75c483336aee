"""Random straight-line programs over the primitives, with inputs to run them on: what the fuzzer feeds the compiler.

A program is made together with its values, so that indices stay inside, numbers stay small and domains are respected.

Three kinds:
  exact     small whole numbers only: every sum is exact in any order, so results must be equal bit by bit
  numeric   real numbers through smooth functions
  special   real numbers with nan, infinities and signed zeros among them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from jitgrad import ops
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph
from jitgrad.ir.node import Node, call, fresh_input, full

KINDS = ("exact", "exact", "numeric", "special")
SIZES = (0, 1, 1, 2, 3, 3, 4, 7, 8, 9, 16, 31, 33, 64, 100, 129, 1000)
LARGEST = 30_000  # elements of one value
BOUND = 64  # whole numbers beyond it are brought back by a remainder
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 5e-324, 1e150, -1e-40)

_EXACT_UNARY = ("negative", "absolute", "sign", "floor", "ceil", "trunc", "rint", "stop_gradient")
_EXACT_BINARY = ("add", "subtract", "multiply", "maximum", "minimum", "fmax", "fmin", "add", "subtract", "multiply")
_EXACT_DIVIDING = ("remainder", "fmod", "floor_divide")
_SMOOTH = ("sin", "cos", "tanh", "arctan", "expm1", "arcsinh", "exp", "exp2", "sqrt", "log", "log1p", "cbrt", "log2",
           "log10", "sinh", "cosh", "arctanh", "tan", "arcsin", "arccos", "arccosh")  # fmt: skip
_COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
_INTEGER = (
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "floor_divide",
    "remainder",
    "fmod",
    "left_shift",
    "right_shift",
    "power",
)
_INTEGER_UNARY = ("negative", "absolute", "sign", "invert", "floor")


@dataclass
class Program:
    """A graph and arrays for its inputs; `layouts` are their element strides, None for C order."""

    graph: Graph
    arrays: list[np.ndarray]
    kind: str

    @property
    def layouts(self) -> list[tuple[int, ...] | None]:
        return [layout_of(array) for array in self.arrays]


def layout_of(array: np.ndarray) -> tuple[int, ...] | None:
    if array.flags.c_contiguous:
        return None
    return tuple(stride // array.itemsize for stride in array.strides)


def random_program(rng: np.random.Generator, length: int | None = None) -> Program:
    """A program of up to `length` operations, inside an open interning scope."""
    maker = _Maker(rng, str(rng.choice(KINDS)))
    if length is None and rng.random() < 0.02:  # more than one kernel will hold
        maker.long_bodies(int(rng.integers(200, 1000)))
        length = 3
    for _ in range(length or int(rng.integers(2, 26))):
        maker.step()
    return maker.finish()


@dataclass
class _Maker:
    rng: np.random.Generator
    kind: str
    long: bool = False
    pool: list[tuple[Node, np.ndarray]] = field(default_factory=list)
    inputs: list[Node] = field(default_factory=list)
    arrays: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self):
        rng = self.rng
        while True:
            self.dims = tuple(int(d) for d in rng.choice(SIZES, int(rng.integers(1, 4))))
            if prod(self.dims) <= LARGEST:
                break
        self.main = np.dtype(rng.choice(["f8", "f8", "f4"]))
        self.input(self.dims, self.main)
        for _ in range(int(rng.integers(0, 3))):
            self.input(self.some_shape(), self.main)
        if rng.random() < 0.3:
            self.input(self.some_shape(), np.dtype(rng.choice(["i8", "i4", "u1", "i2", "bool"])))

    # --- choosing

    def one_in(self, n: int) -> bool:
        return int(self.rng.integers(n)) == 0

    def choice(self, items: Sequence):
        return items[int(self.rng.integers(len(items)))]

    def some_shape(self) -> tuple[int, ...]:
        """Some of the program's extents, in order, some of them 1."""
        kept = [1 if self.one_in(5) else d for d in self.dims if not self.one_in(4)]
        return tuple(kept)

    def any_value(self, kinds: str = "fiub") -> tuple[Node, np.ndarray]:
        """A value of the program so far, recent ones more often."""
        found = [item for item in self.pool if item[0].dtype.kind in kinds]
        if not found:
            return self.input(self.some_shape(), self.main if "f" in kinds else np.dtype(np.int64))
        if self.long:  # mostly what came last, or most of a long program would be read by nobody
            found = found[-6:]
        at = int(len(found) * self.rng.random() ** 0.6)
        return found[min(at, len(found) - 1)]

    # --- inputs

    def input(self, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Node, np.ndarray]:
        node = fresh_input(aval_of(shape, dtype))
        array = self.laid_out(self.numbers(shape, dtype))
        self.inputs.append(node)
        self.arrays.append(array)
        return self.keep(node, array)

    def keep(self, node: Node, value: np.ndarray) -> tuple[Node, np.ndarray]:
        self.pool.append((node, value))
        return node, value

    def numbers(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        rng = self.rng
        if dtype.kind == "b":
            return np.asarray(rng.random(shape) < 0.5)
        if dtype.kind != "f" or self.kind == "exact":
            if dtype.kind != "f" and self.kind == "special":
                extremes = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1, 2, -1 % 7, 63, 64], dtype)
                return np.asarray(rng.choice(extremes, shape))
            low = 0 if dtype.kind == "u" else -5
            return np.asarray(rng.integers(low, 6, shape)).astype(dtype)
        values = np.asarray(rng.normal(0, 1.5, shape)).astype(dtype)
        if self.kind == "special":
            with np.errstate(all="ignore"):
                special = np.array(SPECIAL).astype(dtype)
            values = np.where(rng.random(shape) < 0.3, rng.choice(special, shape), values).astype(dtype)
        return values

    def laid_out(self, array: np.ndarray) -> np.ndarray:
        """The same elements in another order in memory, sometimes."""
        if self.rng.random() < 0.6 or array.ndim == 0:
            return array
        axes = tuple(int(a) for a in self.rng.permutation(array.ndim))
        steps = [int(self.rng.choice([1, 1, 2, 3, -1, -2])) for _ in axes]
        wide = np.zeros([array.shape[a] * abs(s) for a, s in zip(axes, steps, strict=True)], array.dtype)
        view = wide[tuple(slice(None, None, s) for s in steps)].transpose(np.argsort(axes))
        view[...] = array
        if self.one_in(6) and array.shape[0] > 1:
            return np.broadcast_to(np.ascontiguousarray(array[:1]), array.shape)
        return view

    # --- operations

    def apply(self, name: str, *operands: Node, **params) -> tuple[Node, np.ndarray]:
        return self.add(call(name, *operands, **params))

    def add(self, node: Node) -> tuple[Node, np.ndarray]:
        """`node` into the pool, with its value, brought back to small numbers where exactness asks for it."""
        value = self.value(node)
        if self.kind == "exact" and value.size and node.dtype.kind in "fi" and np.abs(value.astype("f8")).max() > BOUND:
            node = call("remainder", node, full(13, node.aval))
            value = self.value(node)
        return self.keep(node, value)

    def value(self, node: Node) -> np.ndarray:
        known = {id(n): v for n, v in self.pool}
        return _evaluate(node, known)

    def long_bodies(self, length: int) -> None:
        """Much arithmetic over few shapes."""
        self.long = True
        for _ in range(length):
            self.choice((self.binary, self.binary, self.unary, self.choose))()
        for _ in range(int(self.rng.integers(4))):
            self.choice((self.reduce, self.normalize, self.binary))()
        self.long = False

    def step(self) -> None:
        actions = [self.unary, self.binary, self.binary, self.binary, self.reduce, self.reduce, self.normalize]
        actions += [self.view, self.view, self.choose, self.join, self.place, self.gather, self.scatter]
        actions += [self.convert, self.counting]
        if self.kind != "special":
            actions += [self.product, self.scan]
        self.choice(actions)()

    def unary(self) -> None:
        if self.one_in(5):
            node, _ = self.any_value("iu")
            self.apply(self.choice(_INTEGER_UNARY), node)
            return
        node, value = self.any_value("f")
        if self.kind == "exact":
            if self.one_in(4):
                self.apply("integer_power", node, exponent=int(self.rng.integers(0, 4)))
            else:
                self.apply(self.choice(_EXACT_UNARY), node)
            return
        name = self.choice((*_SMOOTH, *_EXACT_UNARY, "integer_power"))
        if name == "integer_power":
            self.apply(name, node, exponent=int(self.rng.integers(-3, 6)))
            return
        self.apply(name, node if self.kind == "special" else self.tamed(name, node))

    def tamed(self, name: str, x: Node) -> Node:
        """x brought into the domain of the function."""
        if name in ("exp", "exp2", "expm1", "sinh", "cosh", "tan"):
            return call("tanh", x)
        if name in ("sqrt", "log", "log2", "log10", "log1p", "arccosh", "cbrt"):
            return call("absolute", x) + 1.25
        if name in ("arcsin", "arccos", "arctanh"):
            return call("sin", x) * 0.75
        return x

    def binary(self) -> None:
        x, y = self.pair()
        kind = x.dtype.kind
        names = list(_EXACT_BINARY)
        if self.one_in(4):
            names = list(_COMPARISONS)
        elif kind == "b":
            names = ["logical_and", "logical_or", "logical_xor", "add", "multiply", "maximum"]
        elif kind in "iu":
            names = [n for n in names if n not in ("fmax", "fmin")] + list(_INTEGER)
        if kind == "f" and self.one_in(6) and self.kind != "special":
            names = ["divide", "arctan2", "hypot"] if self.kind == "numeric" else list(_EXACT_DIVIDING)
        if kind == "f" and self.kind == "special":
            names += ["divide", "copysign", "arctan2", "hypot", "power", "remainder", "fmod", "floor_divide"]
        name = self.choice(names)
        if name == "copysign":  # the sign of a nan that arithmetic made is nobody's promise
            y = call("select", call("isnan", y), full(1.0, y.aval), y)
        if name == "power" and kind == "f" and y.primitive.name == "broadcast":  # NumPy has shortcuts
            y = call("tanh", x)
        if kind == "f" and name in _EXACT_DIVIDING and self.kind == "exact":
            y = full(float(self.choice((2, 3, 5, -3))), y.aval)
        if name == "power" and kind in "iu":  # NumPy refuses negative exponents
            y = call("bitwise_and", y, full(3, y.aval))
        if name == "divide" and self.kind == "numeric":
            y = call("absolute", y) + 0.75
        self.apply(name, x, y)
        if self.kind == "special" and name in ("maximum", "minimum", "fmax", "fmin"):
            self.unsigned_zeros()

    def unsigned_zeros(self) -> None:
        """Takes the sign from zeros in the last value: which of 0.0 and -0.0 is the larger is nobody's promise."""
        node, _ = self.pool.pop()
        self.add(call("add", node, full(0, node.aval)))

    def pair(self) -> tuple[Node, Node]:
        """Two values of one aval, one perhaps broadcast, or a number."""
        x, _ = self.any_value()
        others = [n for n, _ in self.pool if n.dtype == x.dtype and n is not x]
        self.rng.shuffle(others)
        for other in others[:6]:
            if other.shape == x.shape:
                return (x, other) if self.one_in(2) else (other, x)
            spread = self.spread(other, x.shape)
            if spread is not None:
                return (x, spread) if self.one_in(2) else (spread, x)
        if self.one_in(3):
            return x, x
        if x.dtype.kind == "b":
            return x, full(self.one_in(2), x.aval)
        number = (
            self.choice((0, 1, 2, 3)) if self.kind == "exact" or x.dtype.kind != "f" else self.choice((0.5, -1.75, 0.0, 1.0))
        )
        return x, full(number, x.aval)

    def spread(self, node: Node, shape: tuple[int, ...]) -> Node | None:
        """`node` broadcast to `shape` along axes of its extents, or None."""
        axes, at = [], 0
        for extent in node.shape:
            while at < len(shape) and extent not in (1, shape[at]):
                at += 1
            if at == len(shape):
                return None
            axes.append(at)
            at += 1
        return ops.broadcast(node, shape, axes)

    def convert(self) -> None:
        node, value = self.any_value()
        wanted = np.dtype(self.choice([self.main, self.main, "f8", "f4", "f2", "i8", "i4", "bool", "i2"]))
        if value.dtype.kind == "f" and wanted.kind in "iu":
            finite = bool(np.isfinite(value).all()) and (value.size == 0 or np.abs(value).max() < 30000)
            if not finite:
                return
        self.add(ops.cast(node, wanted))

    def reduce(self) -> None:
        node, value = self.any_value()
        axes = tuple(a for a in range(node.ndim) if self.one_in(2))
        if not axes:
            return
        name = self.choice(("reduce_sum", "reduce_sum", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod"))
        if name == "reduce_prod" and self.kind == "special":  # where it underflows depends on the order
            name = "reduce_sum"
        if name in ("reduce_max", "reduce_min") and any(node.shape[a] == 0 for a in axes):
            return
        if name == "reduce_prod" and self.kind == "exact":
            node = call("sign", node) if node.dtype.kind in "fi" else node
            if node.dtype.kind == "u":
                return
        if name == "reduce_prod" and self.kind == "numeric" and node.dtype.kind == "f":
            node = call("cos", node) * 0.25 + 1.0
        self.apply(name, node, axes=axes)
        if self.kind == "special" and name in ("reduce_max", "reduce_min"):
            self.unsigned_zeros()

    def normalize(self) -> None:
        """A reduction spread back over what was reduced, as in softmax or layernorm."""
        node, value = self.any_value("f")
        axes = tuple(a for a in range(node.ndim) if self.one_in(2))
        if not axes or any(node.shape[a] == 0 for a in axes):
            return
        name = self.choice(("reduce_sum", "reduce_max", "reduce_min"))
        reduced, _ = self.apply(name, node, axes=axes)
        if self.kind == "special":
            self.unsigned_zeros()
            reduced, _ = self.pool[-1]
        if self.one_in(2) and self.kind == "numeric":
            reduced, _ = self.apply("tanh", reduced)
        back = ops.broadcast(reduced, node.shape, tuple(a for a in range(node.ndim) if a not in axes))
        self.apply(self.choice(("subtract", "add", "multiply", "maximum", "greater")), node, back)

    def view(self) -> None:
        node, value = self.any_value()
        action = int(self.rng.integers(4))
        if action == 0 and node.ndim:
            self.add(ops.transpose(node, tuple(int(a) for a in self.rng.permutation(node.ndim))))
        elif action == 1:
            self.add(ops.reshape(node, self.other_shape(node.shape)))
        elif action == 2 and node.ndim:
            starts, counts, steps = zip(*(self.some_slice(n) for n in node.shape), strict=True)
            self.add(ops.strided_slice(node, starts, counts, steps))
        elif action == 3:
            shape = list(node.shape)
            axes = list(range(node.ndim))
            if len(shape) < 4:
                at = int(self.rng.integers(len(shape) + 1))
                shape.insert(at, int(self.choice((1, 2, 3, *self.dims))))
                axes = [a + (a >= at) for a in axes]
            for axis, extent in zip(axes, node.shape, strict=True):
                if extent == 1 and self.one_in(2):
                    shape[axis] = int(self.choice((2, 5, *self.dims)))
            if prod(shape) <= LARGEST:
                self.add(ops.broadcast(node, shape, axes))

    def other_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape of as many elements: axes joined, split, and axes of 1 put in or left out."""
        shape = list(shape)
        if self.one_in(3):
            return (prod(shape),)
        for at in range(len(shape) - 1):
            if self.one_in(3) and at + 1 < len(shape):
                shape[at : at + 2] = [shape[at] * shape[at + 1]]
        for at in range(len(shape)):
            divisors = [d for d in (2, 3, 4, 5, 8, 10) if shape[at] and shape[at] % d == 0]
            if divisors and self.one_in(3) and len(shape) < 5:
                d = self.choice(divisors)
                shape[at : at + 1] = [d, shape[at] // d]
        if self.one_in(4):
            shape = [d for d in shape if d != 1]
        if self.one_in(4) and len(shape) < 5:
            shape.insert(int(self.rng.integers(len(shape) + 1)), 1)
        return tuple(shape)

    def some_slice(self, n: int) -> tuple[int, int, int]:
        """(start, count, step) inside an axis of n."""
        if n == 0 or self.one_in(10):
            return 0, 0, 1
        step = int(self.choice((1, 1, 1, 2, 3, -1, -1, -2)))
        start = int(self.rng.integers(n)) if self.one_in(2) else (0 if step > 0 else n - 1)
        most = (n - start + step - 1) // step if step > 0 else start // -step + 1
        return start, int(self.rng.integers(1, most + 1)) if self.one_in(3) else most, step

    def place(self) -> None:
        node, _ = self.any_value()
        if not node.ndim or node.dtype.kind == "b" and self.one_in(2):
            return
        rows = []
        for n in node.shape:
            step = int(self.choice((1, 1, 2, 3)))
            before, after = int(self.rng.integers(4)), int(self.rng.integers(4))
            whole = before + max(0, (n - 1) * step + 1) + after
            rows.append((whole, before + (n - 1) * step, -step) if self.one_in(3) and n else (whole, before, step))
        shape, starts, steps = zip(*rows, strict=True)
        if prod(shape) <= LARGEST:
            self.apply("place", node, shape=shape, starts=starts, steps=steps)

    def join(self) -> None:
        node, _ = self.any_value()
        if not node.ndim:
            return
        axis = int(self.rng.integers(node.ndim))

        def rest(shape):
            return shape[:axis] + shape[axis + 1 :]

        partners = [
            n for n, _ in self.pool if n.dtype == node.dtype and n.ndim == node.ndim and rest(n.shape) == rest(node.shape)
        ]
        chosen = [self.choice(partners) for _ in range(int(self.rng.integers(1, 4)))]
        if sum(n.aval.size for n in chosen) + node.aval.size <= LARGEST:
            chosen.insert(int(self.rng.integers(len(chosen) + 1)), node)
            self.apply("concatenate", *chosen, axis=axis)

    def choose(self) -> None:
        x, y = self.pair()
        conditions = [c for c in (self.spread(n, x.shape) for n, _ in self.pool if n.dtype.kind == "b") if c is not None]
        if conditions and self.one_in(2):
            condition = self.choice(conditions)
        else:
            condition = call(self.choice(_COMPARISONS), x, y)
        self.apply("select", condition, x, y)

    def counting(self) -> None:
        shape = self.choice([n.shape for n, _ in self.pool])
        if shape and prod(shape) <= LARGEST:
            node = ops.iota(shape, int(self.rng.integers(len(shape))), self.choice([self.main, np.int64]))
            self.add(call("remainder", node, full(7, node.aval)))

    # --- indices

    def indices(self, extents: Sequence[int], shape: tuple[int, ...]) -> list[Node]:
        """int64 indices of `shape` inside `extents`, negative ones too: computed, read, counted or constant."""
        found = []
        for extent in extents:
            way = int(self.rng.integers(4))
            spread = [s for s in (self.spread(n, shape) for n, _ in self.pool if n.dtype.kind in "iu") if s is not None]
            if way == 0 and spread:
                node = call("remainder", ops.cast(self.choice(spread), np.int64), full(extent, aval_of(shape, np.int64)))
            elif way == 1 and shape:
                node = call(
                    "remainder", ops.iota(shape, int(self.rng.integers(len(shape)))), full(extent, aval_of(shape, np.int64))
                )
            elif way == 2:
                node = full(int(self.rng.integers(-extent, extent)), aval_of(shape, np.int64))
            else:
                node = fresh_input(aval_of(shape, np.int64))
                array = self.laid_out(np.asarray(self.rng.integers(-extent, extent, shape)))
                self.inputs.append(node)
                self.arrays.append(array)
                self.pool.append((node, array))
            found.append(node)
        return found

    def index_shape(self) -> tuple[int, ...]:
        return tuple(int(self.choice((1, 2, 3, 5, 9, 17, *self.dims))) for _ in range(int(self.rng.integers(0, 3))))

    def gather(self) -> None:
        node, _ = self.any_value()
        if not node.ndim or 0 in node.shape:
            return
        count = int(self.rng.integers(1, node.ndim + 1))
        shape = self.index_shape()
        if prod((*shape, *node.shape[count:])) <= LARGEST:
            self.apply("gather", node, *self.indices(node.shape[:count], shape))

    def scatter(self) -> None:
        node, _ = self.any_value("fi")
        if not node.ndim or 0 in node.shape:
            return
        count = int(self.rng.integers(1, node.ndim + 1))
        shape = self.index_shape()
        shape_of_values = (*shape, *node.shape[count:])
        if prod(shape_of_values) > LARGEST:
            return
        candidates = [
            s for s in (self.spread(n, shape_of_values) for n, _ in self.pool if n.dtype == node.dtype) if s is not None
        ]
        values = self.choice(candidates) if candidates else self.input(shape_of_values, node.dtype)[0]
        indices = self.indices(node.shape[:count], shape)
        if self.one_in(2):
            node = full(0, node.aval)
        self.apply("scatter_add", node, values, *indices)

    # --- products and scans

    def product(self) -> None:
        a, _ = self.any_value("f")
        a = ops.reshape(a, (1, *a.shape)) if a.ndim == 1 else a
        if a.ndim < 2:
            return
        if self.one_in(3):
            b = ops.matrix_transpose(a)
        else:
            fitting = [
                n
                for n, _ in self.pool
                if n.dtype == a.dtype and n.ndim == a.ndim and n.shape[:-1] == (*a.shape[:-2], a.shape[-1])
            ]
            shape = (*a.shape[:-2], a.shape[-1], int(self.choice((1, 2, 3, 8, 17, 33))))
            if not fitting and prod(shape) > LARGEST:
                return
            b = self.choice(fitting) if fitting else self.input(shape, a.dtype)[0]
        if prod(a.shape) * b.shape[-1] <= 4_000_000 and prod((*a.shape[:-1], b.shape[-1])) <= LARGEST:
            self.apply("matmul", a, b)

    def scan(self) -> None:
        node, _ = self.any_value("fi")
        if not node.ndim:
            return
        axis, reverse = int(self.rng.integers(node.ndim)), int(self.rng.integers(2))
        match int(self.rng.integers(5)):
            case 0 | 1:
                self.apply("cumsum", node, axis=axis, reverse=reverse)
            case 2:
                node = call("sign", node) if self.kind == "exact" or node.dtype.kind != "f" else call("cos", node) * 0.25 + 1.0
                self.apply("cumprod", node, axis=axis, reverse=reverse)
            case 3:
                self.apply("argsort", node, axis=axis)
            case 4 if node.dtype.kind == "f":
                factor = call("sign", node) if self.kind == "exact" else call("sin", node)
                self.apply("linear_recurrence", factor, node, axis=axis, reverse=reverse)

    # --- outputs

    def finish(self) -> Program:
        made = [node for node, _ in self.pool if node.operands] or [self.pool[0][0]]
        read = {operand for node in made for operand in node.operands}
        ends = [node for node in made if node not in read] or made[-1:]
        count = int(self.choice((1, 2, 3, 5, 8)))
        outputs = [ends[int(k)] for k in self.rng.permutation(len(ends))[:count]]
        if self.one_in(3):
            outputs.append(self.choice(made))
        return Program(Graph(tuple(self.inputs), tuple(outputs)), self.arrays, self.kind)


def _evaluate(root: Node, known: dict[int, np.ndarray]) -> np.ndarray:
    """The value of `root`; `known` are values by the node's id."""
    if id(root) in known:
        return known[id(root)]
    with np.errstate(all="ignore"):
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in known:
                stack.pop()
                continue
            missing = [operand for operand in node.operands if id(operand) not in known]
            if missing:
                stack.extend(missing)
                continue
            if node.primitive.name == "constant":
                known[id(node)] = np.asarray(node.params["value"])
            else:
                values = [known[id(operand)] for operand in node.operands]
                known[id(node)] = np.asarray(node.primitive.reference(*values, **node.params))
            stack.pop()
    return known[id(root)]
