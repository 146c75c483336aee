"""Running sums, running products and linear recurrences along an axis, as routines: one loop over the axis, and inside
it one over what lies side by side in memory. The order of operations is the reference's, so the bits are too."""

from __future__ import annotations

from llvmlite import ir

from ...ir.node import Node
from ...lowering.access import Access
from ...lowering.plan import RoutineStep, Slot
from ..target import Target
from .calling import I64, Loop, RoutineCode, counted, loop_words, merged_loops, place_words

ROUTINES = ("cumsum", "cumprod", "linear_recurrence")
OUTER_LOOPS = 2
_TYPES = {"float64": ir.DoubleType(), "float32": ir.FloatType(), "int64": ir.IntType(64), "int32": ir.IntType(32)}


def symbol(step: RoutineStep) -> str | None:
    dtype = step.node.dtype
    if dtype.name not in _TYPES or len(_loops(step)[0]) > OUTER_LOOPS:
        return None
    return f"jg.{step.routine}.{dtype.name}"


def source(name: str, target: Target) -> str:
    _, routine, dtype = name.split(".")
    kind, is_float = _TYPES[dtype], dtype.startswith("float")
    module = ir.Module()
    code = RoutineCode(module, name)
    b = code.builder
    arrays = 3 if routine == "linear_recurrence" else 2
    pointers = [code.address() for _ in range(arrays)]
    outer = [code.loop(arrays) for _ in range(OUTER_LOOPS)]
    along, inner = code.loop(arrays), code.loop(arrays)
    add, multiply = (b.fadd, b.fmul) if is_float else (b.add, b.mul)

    def first(at: list) -> None:  # the last operand's element starts
        b.store(b.load(at[-2], typ=kind), at[-1])

    def next_(at: list) -> None:
        before = b.load(code.moved(at[-1], b.neg(along[1][-1])), typ=kind)
        operands = [b.load(pointer, typ=kind) for pointer in at[:-1]]
        match routine:
            case "cumsum":
                result = add(before, operands[0])
            case "cumprod":
                result = multiply(before, operands[0])
            case _:
                result = add(multiply(operands[0], before), operands[1])
        b.store(result, at[-1])

    def scan(at: list) -> None:
        code.nest([inner], at, first)
        with counted(b, b.sub(along[0], I64(1))) as k:
            step = b.add(k, I64(1))
            moved = [code.moved(p, b.mul(step, s)) for p, s in zip(at, along[1], strict=True)]
            code.nest([inner], moved, next_)

    code.nest(outer, pointers, scan)
    code.finish()
    return "\n".join(str(value) for value in module.global_values)


def scratch_bytes(step: RoutineStep, target: Target) -> int:
    return 0


def words(step: RoutineStep, buffers: dict[Node, Slot], scratch: Slot) -> list[int]:
    outer, along, inner = _loops(step)
    none: Loop = (1, *[0] * (len(along) - 1))
    found = [word for access in _arrays(step) for word in place_words(access, buffers)]
    for loop in (*[none] * (OUTER_LOOPS - len(outer)), *outer, along, inner or none):
        found += loop_words(loop, step.node.dtype.itemsize)
    return found


def _arrays(step: RoutineStep) -> list[Access]:
    """The operands and the result; running backwards means starting at the other end with negative strides."""
    node = step.node
    arrays = [*step.operands, step.result]
    if not node.params["reverse"]:
        return arrays
    axis = node.params["axis"]
    return [_backwards(access, axis) for access in arrays]


def _backwards(access: Access, axis: int) -> Access:
    stride = access.strides[axis]
    strides = (*access.strides[:axis], -stride, *access.strides[axis + 1 :])
    return Access(access.base, access.offset + (access.shape[axis] - 1) * stride, access.shape, strides)


def _loops(step: RoutineStep) -> tuple[list[Loop], Loop, Loop | None]:
    """The loops around the axis, the one along it, and the one inside it (over axes after it, where there are any)."""
    axis, shape, arrays = step.node.params["axis"], step.node.shape, _arrays(step)
    before = merged_loops(shape[:axis], [access.strides[:axis] for access in arrays])
    after = merged_loops(shape[axis + 1 :], [access.strides[axis + 1 :] for access in arrays])
    along = (shape[axis], *(access.strides[axis] for access in arrays))
    return [*before, *after[:-1]], along, after[-1] if after else None


