"""Random Python functions over NumPy, as source text: what the fuzzer calls through `jitgrad.grad` and through NumPy.

A function is made line by line from templates. A line stays if NumPy runs it on the values so far without complaint
and what it computes is finite, of moderate size, and not at a kink or jump that a small change would cross.
"""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 17, 33)
LARGEST = 5_000
TEMPERATE = 50.0  # values beyond it are brought back by a tanh
KINK = 1e-3  # how near to a kink or jump a value may be

# {a}, {b}: arrays so far; {i}: an axis of a; {n}: an extent; {k}: a small int; {c}: a number.
SMOOTH = (
    "np.sin({a})", "np.cos({a}) * {b}", "np.tanh({a} + {b})", "np.exp(-np.square({a}))", "np.log1p({a} ** 2)",
    "np.sqrt({a} ** 2 + {c})", "{a} * {b}", "{a} + {b}", "{a} - {b}", "{a} / (1.5 + {b} ** 2)", "{c} * {a}",
    "{a} ** 3 * 0.1",
    "{a} + {c}", "-{a}", "{c} - {a}", "{c} / (2.0 + np.cos({a}))", "np.arctan({a})", "np.logaddexp({a}, {b})",
    "np.hypot({a}, {b} + 3.0)", "np.arctan2({a}, {b} ** 2 + 1.0)", "np.power(np.abs({a}) + 0.5, {b} * 0.1)",
    "np.expm1({a} * 0.1)",
    "np.sum({a}, axis={i})", "np.sum({a}, axis={i}, keepdims=True)", "{a}.sum()", "np.mean({a}, axis={i})",
    "{a}.mean()",
    "np.var({a}, axis={i})", "np.std({a} * np.arange({a}.size).reshape({a}.shape) + {a})",
    "np.prod(np.cos({a}) * 0.2 + 1, axis={i})",
    "np.cumsum({a}, axis={i})", "np.cumprod(np.cos({a}) * 0.2 + 1, axis={i})", "np.linalg.norm({a} + 0.3)",
    "{a}.T", "{a}.ravel()",
    "np.reshape({a}, (-1,))", "{a}.reshape({a}.shape[::-1])", "np.transpose({a})", "np.swapaxes({a}, 0, -1)",
    "np.moveaxis({a}, 0, -1)",
    "{a}[::-1]", "{a}[..., ::-1]", "{a}[1:]", "{a}[:-1]", "{a}[::2]", "{a}[None]", "{a}[..., None]", "{a}[0]",
    "{a}[-1]",
    "{a}[[0, -1, 0]]", "{a}[np.array([0, 0, 0])]", "{a}[..., [0, -1]]", "{a}[{k} % {a}.shape[0]]",
    "{a}[:, {k} % {a}.shape[1]]",
    "{a}[np.arange({a}.shape[0]) % 2 == 0]", "np.take({a}, [0, 0, -1], axis={i})", "np.concatenate([{a}, {b}])",
    "np.concatenate([{a}, {b}], axis=-1)", "np.stack([{a}, {b}])", "np.stack([{a}, {b}], axis=-1)",
    "np.array([{a}, {b}])",
    "np.vstack([{a}, {b}])", "np.hstack([{a}, {b}])", "np.pad({a}, 1)", "np.pad({a}, 2, mode='edge')",
    "np.tile({a}, 2)",
    "np.repeat({a}, 2, axis={i})", "np.roll({a}, {k}, axis={i})", "np.flip({a}, axis={i})",
    "np.broadcast_to({a}, (2,) + {a}.shape)",
    "{a} @ {b}", "{a} @ {a}.T", "{a}.T @ {b}", "np.dot({a}, {b})", "np.outer({a}, {b})",
    "np.einsum('ij,kj->ik', {a}, {b})",
    "np.einsum('ij->j', {a})", "np.einsum('ij,ij->i', {a}, {a})", "np.tensordot({a}, {b}, axes=1)",
    "np.trace({a})", "np.diag({a})",
    "np.tril({a})", "np.triu({a}, 1)", "np.diff({a}, axis={i})", "np.squeeze({a})", "np.expand_dims({a}, {i})",
    "{a} - {a}.mean(axis={i}, keepdims=True)",
    "np.exp({a}) / np.sum(np.exp({a}), axis={i}, keepdims=True)", "np.log(np.sum(np.exp({a}), axis={i}))",
    "({a} - {a}.mean(axis={i}, keepdims=True)) / (1.0 + {a}.std(axis={i}, keepdims=True))",
    "np.where(np.arange({a}.shape[-1]) < {k}, {a}, {b})", "np.convolve({a}, np.array([1.0, 2.0, 0.5]))",
    "np.float64({c}) * {a}",
    "np.split({a}, [1])[1]", "sum({a})", "np.meshgrid({a}, {b})[0]", "np.kron({a}, {b})", "np.average({a}, axis={i})",
    "np.interp({c}, np.arange(5.0), np.arange(5.0) ** 2) * {a}", "{a}.flatten()", "np.ravel({a}, order='F')",
    "np.copy({a})",
)  # fmt: skip
KINKED = (
    "np.exp({a} - {a}.max(axis={i}, keepdims=True))",
    "np.abs({a})", "np.maximum({a}, {b})", "np.minimum({a}, {c})", "np.where({a} > {c}, {a}, {b})",
    "np.where({a} > 0, np.sqrt(np.abs({a})), 0.0)",
    "np.clip({a}, -0.5, 0.7)", "np.max({a}, axis={i})", "{a}.min()", "np.sort({a}, axis={i})",
    "np.sign({a}) * {b}", "np.heaviside({a}, 0.5) * {b}",
    "np.median({a}, axis={i})", "np.ptp({a}, axis={i})", "np.fmax({a}, {b})", "np.floor({a}) * {b}",
    "{a} * ({a} > 0)", "({a} % 1.7) + {b}",
    "np.partition({a}.ravel(), 0)[0]", "{a}[{a} > 0].sum()", "{a}[np.argmax({a}, axis=0)]", "np.nanmax({a})",
    "np.linalg.norm({a}, axis={i})",
    "np.take_along_axis({a}, np.argsort({a}, axis={i}), {i})", "np.copysign({a}, {b})", "np.nan_to_num({a})",
    "np.piecewise({a}, [{a} < 0], [0.5, 2.0]) * {b}",
)  # fmt: skip
STATEMENTS = (
    "{v} = {a} * 1.0\n{v}[0] = {c}", "{v} = {a} + 0.0\n{v}[..., -1] *= {c}", "{v} = {a}.copy()\n{v} += {b}",
    "{v} = {a} * 1.0\n{v}[::2] = {v}[::2] ** 2",
    "{v} = np.zeros({a}.shape[:1])\nfor j in range({a}.shape[0]):\n    {v}[j] = np.sum({a}[j])",
    "{v} = {a} * 1.0\n{v}[[0, 0]] += {b}", "{v} = {a}\nfor j in range(3):\n    {v} = np.sin({v}) + {b}",
    "{v} = 0.0\nfor row in {a}:\n    {v} = {v} + np.sum(row ** 2)", "{v} = {a} * 1.0\n{v}[{v} > 0] = 0.0",
    "if np.sum({a}) > {c}:\n    {v} = {a} * 2.0\nelse:\n    {v} = {a} - 1.0", "{v}, _ = {a} * 2.0, {b}",
    "{v} = [{a}, {b}][{k} % 2]",
    "{v} = {a}.sum()\nwhile {v} > 1.0:\n    {v} = {v} * 0.5", "{v} = np.array([np.sum({a}), np.sum({b}), {c}])",
    "{v} = np.zeros((2,) + {a}.shape)\n{v}[1] = {a}\n{v}[0] -= {a} * {c}",
    "{v} = {a} * 1.0\nnp.add.at({v}, [0, 0], {c})",
    "{v} = np.empty_like({a})\n{v}[...] = {b}", "w = {a} * 1.0\n{v} = w[1:]\nw[0] = 5.0",
)  # fmt: skip


@dataclass
class Function:
    """A function of the arrays `arguments`: its source, and whether a small step crosses no kink."""

    source: str
    arguments: list[np.ndarray]
    smooth: bool

    def compiled(self) -> Callable:
        """The Python function."""
        return define(self.source)


def define(source: str) -> Callable:
    name = f"<fuzz {hash(source) & 0xFFFFFFFF:x}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space: dict = {"np": np}
    exec(compile(source, name, "exec"), space)
    return space["f"]


def random_function(rng: np.random.Generator) -> Function:
    """A function of one to three arrays with a scalar result."""
    maker = _Maker(rng)
    wanted = int(rng.integers(1, 13))
    for _ in range(6 * wanted):
        if maker.count >= wanted:
            break
        maker.step()
    return maker.finish()


class _Maker:
    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.smooth = bool(rng.random() < 0.6)
        self.extents = [int(n) for n in rng.choice(SIZES, 3)]
        self.dtype = np.dtype("f4" if rng.random() < 0.15 else "f8")
        self.lines: list[str] = []
        self.count = 0
        self.parameters = ["x", "y", "z"][: int(rng.integers(1, 4))]
        self.arguments = [self.array() for _ in self.parameters]
        self.space = {"np": np, **dict(zip(self.parameters, self.arguments, strict=True))}
        self.names = list(self.parameters)

    def array(self) -> np.ndarray:
        ndim = int(self.rng.choice([0, 1, 1, 2, 2, 3]))
        shape = tuple(int(n) for n in self.rng.choice(self.extents, ndim))
        array = np.asarray(self.rng.normal(0, 1, shape)).astype(self.dtype)
        way = int(self.rng.integers(6))
        if way == 0 and ndim:
            return np.asfortranarray(array)
        if way == 1 and ndim:
            return np.repeat(array, 2, axis=-1)[..., ::2]
        if way == 2 and ndim:
            return array[::-1]
        return array

    def pick(self, items):
        return items[int(self.rng.integers(len(items)))]

    def name(self) -> str:
        at = int(len(self.names) * self.rng.random() ** 0.5)
        return self.names[min(at, len(self.names) - 1)]

    def step(self) -> None:
        name = f"v{self.count}"
        roll = self.rng.random()
        if roll < 0.06:
            template = self.pick(STATEMENTS)
            if self.smooth and ("> 0]" in template or "while" in template):
                return
        else:
            template = f"{{v}} = {self.pick(SMOOTH if self.smooth or roll < 0.7 else KINKED)}"
        a = self.name()
        rank = np.ndim(self.space[a])
        if "{i}" in template and not rank:
            return
        text = template.format(
            v=name, a=a, b=self.name(), i=int(self.rng.integers(-rank, rank)) if rank else 0, k=int(self.rng.integers(5)),
            n=self.pick(self.extents), c=round(float(self.rng.normal(0, 1)), 2),
        )  # fmt: skip
        if self.accepts(text, name):
            self.lines += text.split("\n")
            self.names.append(name)
            self.count += 1

    def accepts(self, text: str, name: str) -> bool:
        """Runs the lines on the values so far; on copies, as an assignment must not change what came before."""
        space = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in self.space.items()}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                exec(text, space)
        except Exception:
            return False
        value = space.get(name)
        if not isinstance(value, (np.ndarray, np.floating, float)) or np.asarray(value).dtype.kind != "f":
            return False
        array = np.asarray(value)
        if (
            array.size > LARGEST
            or array.size == 0
            or array.ndim > 4
            or not np.isfinite(array).all()
            or np.abs(array).max() > TEMPERATE
        ):
            return False
        space.pop("__builtins__", None)
        self.space = space
        return True

    def finish(self) -> Function:
        read = "\n".join(self.lines)
        ends = [n for n in self.names if n not in self.parameters and read.count(n) <= 1] or [self.names[-1]]
        used = ends[-3:]
        weights = [f"np.sum(np.sin({name}) * {k + 1}.0)" for k, name in enumerate(used)]
        missing = [f"np.sum({p}) * 0.5" for p in self.parameters if p not in read]
        body = [*self.lines, f"return {' + '.join(weights + missing)}"]
        source = f"def f({', '.join(self.parameters)}):\n" + "".join(f"    {line}\n" for line in body)
        return Function(source, self.arguments, self.smooth)
