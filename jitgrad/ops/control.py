"""Loops, branches, and the stacks on which loops save what their derivatives need. Builders: `ir.control`."""

from __future__ import annotations

import numpy as np

from ..errors import InternalError
from ..ir.aval import Aval, StackAval, TupleAval
from ..ir.body import Body
from ..ir.control import INDEX, TRUTH
from ..ir.interpret import run_body
from ..ir.node import Node, apply
from ..ir.primitive import Control, Primitive, Structure
from ..transforms import branches, loops, stacks

# --- loop(trip, init..., captured...; body, test, carries) -> (carries..., count): see `ir.control`


def _loop_aval(trip: Aval, *operands: Aval, body: Body, test: Body | None, carries: int) -> TupleAval:
    init = operands[:carries]
    expected = INDEX, *operands
    fits = trip == INDEX and body.input_avals == expected and body.output_avals == init
    if not fits or (test is not None and (test.input_avals != expected or test.output_avals != (TRUTH,))):
        raise InternalError(f"a loop over {init} has the body {body.input_avals} -> {body.output_avals}")
    return TupleAval((*init, INDEX))


def _loop_reference(trip, *operands, body: Body, test: Body | None, carries: int):
    state, captured = list(operands[:carries]), operands[carries:]
    count = 0
    while count < trip:
        inputs = [np.asarray(count, np.int64), *state, *captured]
        if test is not None and not run_body(test, inputs)[0]:
            break
        state = run_body(body, inputs)
        count += 1
    return (*state, np.asarray(count, np.int64))


LOOP = Primitive(
    "loop",
    reference=_loop_reference,
    aval=_loop_aval,
    code=Control(),
    jvp=loops.push,
    pull=loops.pull,
    overwrites=lambda *, body, test, carries: tuple(range(1, 1 + carries)),
    doc="Runs `body` on carries, `trip` times at most, as long as `test` holds; gives the carries and the count of steps.",
)

# --- cond(predicate, operands...; then, otherwise) -> (results...)


def _cond_aval(predicate: Aval, *operands: Aval, then: Body, otherwise: Body) -> TupleAval:
    fits = predicate == TRUTH and then.output_avals == otherwise.output_avals
    if not fits or then.input_avals != operands or otherwise.input_avals != operands:
        raise InternalError(f"a branch on {operands} between {then.output_avals} and {otherwise.output_avals}")
    return TupleAval(then.output_avals)


COND = Primitive(
    "cond",
    reference=lambda predicate, *operands, then, otherwise: tuple(run_body(then if predicate else otherwise, operands)),
    aval=_cond_aval,
    code=Control(),
    jvp=branches.push,
    pull=branches.pull,
    overwrites=lambda *, then, otherwise: tuple(range(1, 1 + len(then.input_avals))),
    doc="The results of `then` where the predicate holds, else of `otherwise`; only one of them is run.",
)

# --- get(tuple; part)


def _get_aval(whole: Aval, *, part: int) -> Aval:
    assert isinstance(whole, TupleAval)
    return whole.parts[part]


GET = Primitive(
    "get",
    reference=lambda whole, *, part: whole[part],
    aval=_get_aval,
    code=Structure(),
    jvp=stacks.get_jvp,
    pull=stacks.get_pull,
    doc="One value of a tuple. Derivatives look through it.",
)

# --- stacks. Pushing and popping are linear, and each the transpose of the other:
#     s' = push(s, v):   dv = top of ds', ds = the rest of ds'
#     (s', v) = pop(s):  ds = push(ds', dv)


def _push_aval(stack: Aval, value: Aval) -> Aval:
    if stack != StackAval(value):
        raise InternalError(f"{value} pushed on a stack of {stack}")
    return stack


def _pop_aval(stack: Aval) -> TupleAval:
    assert isinstance(stack, StackAval)
    return TupleAval((stack, stack.element))


EMPTY = Primitive(
    "empty",
    reference=lambda *, aval, number: (),
    aval=lambda *, aval, number: StackAval(aval),
    code=Structure(),
    doc="A stack with nothing on it; `number` tells it from others.",
)
PUSH = Primitive(
    "push",
    reference=lambda stack, value: (stack, value),  # as a linked list: all stacks that there were stay as they are
    aval=_push_aval,
    code=Structure(),
    jvp=stacks.push_jvp,
    pull=stacks.push_pull,
    doc="The stack with a value on top.",
)
POP = Primitive(
    "pop",
    reference=lambda stack: stack,
    aval=_pop_aval,
    code=Structure(),
    jvp=stacks.pop_jvp,
    pull=stacks.pop_pull,
    doc="(the stack without its top, the value that was on top).",
)


def push(stack: Node, value: Node) -> Node:
    """The stack with `value` on top."""
    return apply(PUSH, stack, value)
