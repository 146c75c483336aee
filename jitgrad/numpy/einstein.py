"""np.einsum: the subscripts are read here, the order of pairwise contractions is NumPy's own greedy path."""

from __future__ import annotations

import string

import numpy as np

from ..errors import UsageTypeError, UsageValueError
from ..frontend.array import Array
from ..ir.node import Node
from ._build import cast, common, implementation, node_of, plain_int, refuse_out
from .contraction import Labels, contract, ordered, summed
from .products import diagonal_of


@implementation(np.einsum)
def einsum(*operands, out=None, optimize=False, dtype=None, casting="safe", order="K"):
    refuse_out(out)
    inputs, output, arrays = _read(operands)
    nodes = common(*arrays) if dtype is None else [cast(node_of(array), dtype) for array in arrays]
    labels, wanted = _resolved(inputs, output, [node.shape for node in nodes])
    _check_extents(labels, wanted, nodes)
    terms = [_without_repeats(node, names) for node, names in zip(nodes, labels, strict=True)]
    return _contracted(terms, wanted)


@implementation(np.einsum_path)
def einsum_path(*operands, optimize="greedy", einsum_call=False):
    """NumPy's own answer, which depends on shapes alone."""
    stand_ins = [_stand_in(operand.node) if isinstance(operand, Array) else operand for operand in operands]
    return np.einsum_path(*stand_ins, optimize=optimize, einsum_call=einsum_call)


def _stand_in(x: Node) -> np.ndarray:
    """An array of x's shape that takes no memory."""
    return np.broadcast_to(np.float64(0), x.shape)


# --- reading the subscripts


def _read(operands) -> tuple[list[list], list | None, list]:
    """The labels of each operand (Ellipsis among them), those of the output or None, and the arrays."""
    if not operands:
        raise UsageValueError("must provide at least an operand and a subscripts list to einsum")
    if isinstance(operands[0], str):
        left, arrow, right = operands[0].replace(" ", "").partition("->")
        inputs = [_letters(term) for term in left.split(",")]
        arrays, output = list(operands[1:]), _letters(right) if arrow else None
    else:
        pairs = list(operands)
        output = _numbers(pairs.pop()) if len(pairs) % 2 else None
        arrays, inputs = pairs[::2], [_numbers(one) for one in pairs[1::2]]
    if len(inputs) != len(arrays):
        raise UsageValueError(
            f"einsum: the subscripts are for {len(inputs)} operand(s), {len(arrays)} are given"
        )
    return inputs, output, arrays


def _letters(term: str) -> list:
    head, dots, tail = term.partition("...")
    for letter in head + tail:
        if letter not in string.ascii_letters:
            raise UsageValueError(
                f"einsum: invalid subscript {letter!r} in {term!r}", "Only letters and ... are allowed."
            )
    return [*head, Ellipsis, *tail] if dots else list(head)


# In the order of ASCII, so that an implicit output has its axes in the order of the numbers.
_NUMBERED = string.ascii_uppercase + string.ascii_lowercase


def _numbers(labels) -> list:
    labels = list(labels)
    if any(label is not Ellipsis and not hasattr(label, "__index__") for label in labels):
        raise UsageTypeError(f"einsum: subscripts must be integers or Ellipsis, not {labels}")
    numbers = [label if label is Ellipsis else plain_int(label) for label in labels]
    if any(number is not Ellipsis and not 0 <= number < len(_NUMBERED) for number in numbers):
        raise UsageValueError(f"einsum: subscripts must be from 0 to {len(_NUMBERED) - 1}, not {numbers}")
    return [number if number is Ellipsis else _NUMBERED[number] for number in numbers]


def _resolved(inputs, output, shapes) -> tuple[list[Labels], Labels]:
    """Ellipses written out, as labels counted from the last axis; the implicit output worked out."""
    labels = [_spelled(names, len(shape)) for names, shape in zip(inputs, shapes, strict=True)]
    dots = sorted({label for names in labels for label in names if isinstance(label, int)})
    if output is None:
        count: dict = {}
        for names in labels:
            for label in names:
                count[label] = count.get(label, 0) + 1
        once = sorted(
            label for label, times_seen in count.items() if times_seen == 1 and isinstance(label, str)
        )
        return labels, (*dots, *once)
    if dots and Ellipsis not in output:
        raise UsageValueError(
            "einsum: output has no ellipsis although broadcast dimensions are there: put ... in it"
        )
    wanted = tuple(one for label in output for one in (dots if label is Ellipsis else [label]))
    known = {label for names in labels for label in names}
    if unknown := [label for label in wanted if label not in known]:
        raise UsageValueError(f"einsum: output subscript {unknown[0]!r} is in no input")
    if len(set(wanted)) != len(wanted):
        raise UsageValueError("einsum: an output subscript appears twice")
    return labels, wanted


def _spelled(names: list, ndim: int) -> Labels:
    """Ellipsis as the integers -k, ..., -1."""
    rest = ndim - len([name for name in names if name is not Ellipsis])
    if rest < 0 or (rest > 0 and Ellipsis not in names):
        raise UsageValueError(f"einsum: subscripts name {ndim - rest} axes of an operand that has {ndim}")
    return tuple(one for name in names for one in (range(-rest, 0) if name is Ellipsis else [name]))


def _check_extents(labels: list[Labels], wanted: Labels, nodes: list[Node]) -> None:
    extent: dict = {}
    for names, node in zip(labels, nodes, strict=True):
        for label, length in zip(names, node.shape, strict=True):
            if length != extent.setdefault(label, length) and 1 not in (length, extent[label]):
                raise UsageValueError(
                    f"einsum: subscript {label!r} has extents {extent[label]} and {length} "
                    f"in operands of shapes {', '.join(str(n.shape) for n in nodes)}"
                )
            extent[label] = max(length, extent[label]) if length else 0


# --- contracting


def _without_repeats(x: Node, labels: Labels) -> tuple[Node, Labels]:
    """x with each label once: repeated ones take the diagonal."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            one = labels.index(label)
            two = labels.index(label, one + 1)
            if x.shape[one] != x.shape[two]:
                raise UsageValueError(
                    f"einsum: repeated subscript {label!r} has extents {x.shape[one]} and {x.shape[two]}"
                )
            x = diagonal_of(x, 0, one, two)
            labels = tuple(name for k, name in enumerate(labels) if k not in (one, two)) + (label,)
    return x, labels


def _contracted(terms: list[tuple[Node, Labels]], wanted: Labels) -> Node:
    """Pairs contracted one after the other; what no later term and no output needs is summed at once."""
    for group in _path(terms, wanted):
        picked = [terms[k] for k in sorted(group)]
        terms = [term for k, term in enumerate(terms) if k not in group]
        while len(picked) > 1:
            (x, x_labels), (y, y_labels), *picked = picked
            later = {label for _, names in picked + terms for label in names} | set(wanted)
            kept = tuple(label for label in dict.fromkeys(x_labels + y_labels) if label in later)
            if not picked and not terms:
                kept = wanted
            picked.insert(0, (contract(x, x_labels, y, y_labels, kept), kept))
        terms.append(picked[0])
    ((x, labels),) = terms
    x, labels = summed(x, labels, wanted)
    return ordered(x, labels, wanted)


def _path(terms: list[tuple[Node, Labels]], wanted: Labels) -> list[tuple[int, ...]]:
    """NumPy's greedy order for the terms, from arrays that take no memory."""
    if len(terms) <= 2:
        return [tuple(range(len(terms)))] if len(terms) == 2 else []
    names = {label: None for _, labels in terms for label in labels}
    letter = dict(zip(names, string.ascii_letters, strict=False))
    spelled = ",".join("".join(letter[label] for label in labels) for _, labels in terms)
    spelled += "->" + "".join(letter[label] for label in wanted)
    stand_ins = [_stand_in(node) for node, _ in terms]
    return [tuple(group) for group in np.einsum_path(spelled, *stand_ins, optimize="greedy")[0][1:]]
