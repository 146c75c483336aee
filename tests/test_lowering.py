"""Legalization, fusion, kernels and plans: what shares a kernel, what is in memory when, and where."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.programs import layout_of, random_program
from jitgrad import ops
from jitgrad.ir import interpret
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph, structure
from jitgrad.ir.node import Node, call, fresh_input, full, interning
from jitgrad.ir.primitive import Leaf, View
from jitgrad.lowering.access import Accesses, contiguous_strides
from jitgrad.lowering.describe import fusion_text, kernels_of, kernels_text, plan_text
from jitgrad.lowering.fuse import LARGEST_BODY
from jitgrad.lowering.kernel import Kernel
from jitgrad.lowering.legalize import legalize
from jitgrad.lowering.memory import ALIGNMENT
from jitgrad.lowering.plan import Plan, buffer_bytes, make_plan
from jitgrad.lowering.steps import KernelStep, RoutineStep
from jitgrad.lowering.work import work_of
from jitgrad.runtime.compile import compile_graph, plan_graph


@pytest.fixture(autouse=True)
def scope():
    with interning():
        yield


def given(*shape: int, dtype="f8") -> Node:
    return fresh_input(aval_of(shape, dtype))


def planned(inputs, outputs, layouts=None) -> Plan:
    return plan_graph(Graph(tuple(inputs), tuple(outputs)), layouts)


def check_values(inputs, outputs) -> None:
    """The compiled graph against the interpreter, on whole numbers."""
    graph = Graph(tuple(inputs), tuple(outputs))
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.integers(-3, 4, n.shape)).astype(n.dtype) for n in graph.inputs]
    for a, b in zip(compile_graph(graph)(*arrays), interpret.run(graph, arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


# --- legalization


def copies(graph: Graph) -> int:
    return sum(node.primitive.name == "copy" for node in graph.nodes)


def test_outputs_get_memory_of_their_own():
    x = given(3, 4)
    turned, double = ops.transpose(x, (1, 0)), x * 2.0
    graph = legalize(Graph((x,), (x, turned, double, double, full(1.0, x.aval))), {})
    assert len(set(graph.outputs)) == 5
    assert not any(isinstance(node.primitive.code, Leaf | View) for node in graph.outputs)
    assert copies(graph) == 4


def test_strided_views_are_not_copied():
    x = given(6, 4)
    view = ops.strided_slice(ops.transpose(x, (1, 0)), (3, 0), (2, 3), (-2, 2))
    graph = legalize(Graph((x,), (call("exp", ops.broadcast(view, (5, 2, 3), (1, 2))),)), {})
    assert copies(graph) == 0


def test_views_without_strides_are_copied():
    x = given(6, 4)
    graph = legalize(Graph((x,), (call("exp", ops.reshape(ops.transpose(x, (1, 0)), (24,))),)), {})
    assert copies(graph) == 1
    check_values([x], [call("exp", ops.reshape(ops.transpose(x, (1, 0)), (24,)))])


def test_layouts_of_inputs_decide():
    x = given(4, 6)
    flat = Graph((x,), (call("exp", ops.reshape(x, (24,))),))
    assert copies(legalize(flat, {})) == 0
    assert copies(legalize(flat, {x: (1, 4)})) == 1


def test_nothing_to_compute_is_not_computed():
    x, y = given(0, 3), given(2, 0)
    outputs = [ops.reduce_sum(x, (0,)), call("exp", x), ops.matmul(y, x), ops.reduce_prod(x, (0,)), ops.cumsum(y, 1)]
    plan = planned((x, y), outputs)
    assert all(0 not in step.binding.extents for step in plan.steps if isinstance(step, KernelStep))
    check_values([x, y], outputs)


# --- fusion


def test_arithmetic_is_one_kernel_without_temporaries():
    x, y = given(100), given(100)
    plan = planned((x, y), [call("exp", call("sin", x) * y + x) / (y + 2.0)])
    assert len(plan.steps) == 1 and plan.arena_bytes == 0
    (kernel,) = kernels_of(plan)
    assert len(kernel.arrays) == 3


def test_arithmetic_goes_into_reductions_and_siblings_share_a_pass():
    x = given(50, 20)
    outputs = [ops.reduce_sum(x, (1,)), ops.reduce_sum(x * x, (1,)), ops.reduce_max(call("exp", x), (1,)), x + 1.0]
    plan = planned((x,), outputs)
    assert len(plan.steps) == 1 and plan.arena_bytes == 0
    assert len(plan.steps[0].kernel.folds) == 3
    check_values((x,), outputs)


def test_what_a_reduction_gives_is_read_in_the_next_kernel():
    x = given(50, 20)
    centred = x - ops.broadcast(ops.reduce_sum(x, (1,)), (50, 20), (0,))
    plan = planned((x,), [ops.reduce_sum(centred * centred, (1,))])
    assert len(plan.steps) == 2
    assert plan.arena_bytes == 50 * 8 + (-50 * 8) % ALIGNMENT  # the row sums alone


def test_small_values_are_computed_where_their_broadcast_is_read():
    x, w = given(50, 20), given(50)
    plan = planned((x, w), [x * ops.broadcast(call("exp", w) * 2.0, (50, 20), (0,))])
    assert len(plan.steps) == 1 and plan.arena_bytes == 0
    (kernel,) = kernels_of(plan)
    (exp,) = [step for step in kernel.body if step.op == "exp"]
    assert exp.axes == 0b01  # in the outer loop only


def test_cheap_values_are_computed_again_costly_ones_stored():
    x = given(50, 20)

    def stored(value: Node) -> bool:
        total = ops.broadcast(ops.reduce_sum(value, (1,)), (50, 20), (0,))
        return bool(planned((x,), [value * total]).fusion.stored.get(value))

    assert not stored(x * 2.0)
    assert stored(call("exp", x))


def test_big_bodies_are_cut():
    x, y = given(40), given(40)
    value, kept = x, []
    for k in range(1000):
        value = call("sin", value) + y * (k + 0.5)
        if k % 100 == 0:
            kept.append(value)
    outputs = [value, *kept, ops.reduce_sum(kept[3], (0,))]
    plan = planned((x, y), outputs)
    assert len(plan.steps) >= 3000 // LARGEST_BODY
    assert all(len(kernel.body) < 3 * LARGEST_BODY for kernel in kernels_of(plan))
    check_values((x, y), outputs)


def test_joins_are_written_in_place():
    x, y = given(3, 4), given(3, 5)
    plan = planned((x, y), [ops.concatenate([call("exp", x), y * 2.0], 1)])
    assert plan.arena_bytes == 0
    assert all(step.writes == plan.graph.outputs for step in plan.steps)


def test_scatters_copy_and_then_add():
    x, v = given(5), given(9)
    indices = fresh_input(aval_of((9,), "i8"))
    plan = planned((x, v, indices), [ops.scatter_add(x, v, indices)])
    assert [step.writes for step in plan.steps] == [plan.graph.outputs] * 2
    assert plan.steps[1].kernel.stores[0].indices


# --- kernels: free of sizes and numbers


def kernel_of(shape: tuple[int, ...], number: float = 2.5, layout=None, dtype="f8") -> Kernel:
    x = fresh_input(aval_of(shape, dtype))
    plan = planned((x,), [ops.reduce_sum(x * number, tuple(range(len(shape))))], [layout])
    (kernel,) = kernels_of(plan)
    return kernel


def test_sizes_and_numbers_are_no_part_of_a_kernel():
    assert kernel_of((100,)) == kernel_of((7,)) == kernel_of((100,), 3.5) == kernel_of((10, 20))
    assert hash(kernel_of((100,))) == hash(kernel_of((7,)))


def test_dtypes_operations_and_units_are():
    kernels = {kernel_of((100,)), kernel_of((100,), dtype="f4"), kernel_of((100,), 0.0), kernel_of((100,), -0.0)}
    assert len(kernels) == 4


@pytest.mark.parametrize(
    "shape, layout, rank",
    [
        ((4, 5, 6), None, 1),
        ((4, 5), (1, 4), 1),       # transposed: the loops are ordered and merged all the same
        ((4, 5), (10, 2), 1),      # every other element
        ((4, 5), (7, 1), 2),       # rows with gaps
        ((4, 5), (0, 1), 2),       # one row, four times
        ((1, 5, 1), None, 1),
        ((), None, 0),
        ((1, 1), None, 0),
    ],
)
def test_loops_are_merged(shape, layout, rank):
    assert kernel_of(shape, layout=layout).rank == rank


def test_the_innermost_loop_walks_memory():
    x = given(20, 30)
    (kernel,) = kernels_of(planned((x,), [call("exp", ops.transpose(x, (1, 0)))]))
    assert any(array.pattern[-1] == 1 for array in kernel.arrays)


# --- plans of random programs


def check_plan(plan: Plan) -> None:
    """Nothing is read before it is written; outputs are written; no two buffers in use at once overlap."""
    graph = plan.graph
    written = set(graph.inputs)
    first: dict[Node, int] = {}
    last: dict[Node, int] = {}
    for index, step in enumerate(plan.steps):
        for node in step.touches:
            first.setdefault(node, index)
            last[node] = index
        written |= set(step.writes)
        assert all(node in written for node in step.touches), "read before it is written"
    assert all(node in written or node.aval.size == 0 for node in graph.outputs)
    arena = len(graph.inputs) + len(graph.outputs)
    used = [node for node, slot in plan.buffers.items() if slot.slot == arena]
    sizes = {node: buffer_bytes(node) for node in used}
    sizes |= {node: sweep.private_bytes(node) for sweep in plan.sweeps for node in sweep.private}
    for node in used:
        start, size = plan.buffers[node].offset, sizes[node]
        assert start % ALIGNMENT == 0 and start + size <= plan.arena_bytes
        for other in used:
            if other is not node and first[node] <= last[other] and first[other] <= last[node]:
                begin = plan.buffers[other].offset
                assert start + size <= begin or begin + sizes[other] <= start, "two buffers overlap"


def check_scratch(plan: Plan) -> None:
    """A routine's scratch lies beside every buffer in use."""
    arena = len(plan.graph.inputs) + len(plan.graph.outputs)
    for index, (step, scratch) in enumerate(zip(plan.steps, plan.scratch, strict=True)):
        if scratch < 0:
            continue
        assert isinstance(step, RoutineStep)
        for node in step.touches:
            if (slot := plan.buffers[node]).slot == arena:
                assert scratch >= slot.offset + buffer_bytes(node) or scratch < slot.offset, index


@pytest.mark.parametrize("first", range(0, 150, 30))
def test_plans_of_random_programs(first):
    for seed in range(first, first + 30):
        program = random_program(np.random.default_rng(seed))
        plan = plan_graph(program.graph, program.layouts)
        check_plan(plan)
        check_scratch(plan)
        for step in plan.steps:
            assert all(part >= 0 for part in work_of(step))
        assert plan_text(plan) and fusion_text(plan.fusion) and kernels_text(plan)


def test_memory_is_used_again():
    x = given(64, 64)
    value = x
    for _ in range(10):
        value = value - ops.broadcast(ops.reduce_max(call("exp", value), (0, 1)), (64, 64), ())
        value = ops.cumsum(value, 0)
    plan = planned((x,), [value])
    check_plan(plan)
    assert plan.arena_bytes <= 4 * buffer_bytes(x)


def test_planning_is_reproducible():
    for seed in range(20):
        texts = []
        for _ in range(2):
            program = random_program(np.random.default_rng(seed))
            plan = plan_graph(program.graph, program.layouts)
            texts.append((plan_text(plan), kernels_text(plan), structure(plan.graph)))
        assert texts[0] == texts[1]


# --- accesses


@pytest.mark.parametrize("seed", range(20))
def test_accesses_are_numpys_views(seed):
    """Offset and strides of random chains of views, against the views that NumPy makes."""
    rng = np.random.default_rng(seed)
    array = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5).transpose(rng.permutation(4))
    x = fresh_input(aval_of(array.shape, "f8"))
    node, view = x, array
    for _ in range(4):
        match int(rng.integers(3)):
            case 0:
                axes = tuple(int(a) for a in rng.permutation(view.ndim))
                node, view = ops.transpose(node, axes), view.transpose(axes)
            case 1:
                node = ops.strided_slice(node, [n - 1 for n in view.shape], view.shape, [-1] * view.ndim)
                view = view[(slice(None, None, -1),) * view.ndim]
            case 2:
                shape = (*view.shape[:1], 3, *view.shape[1:])
                axes = (0, *range(2, view.ndim + 1))
                node = ops.broadcast(node, shape, axes)
                view = np.broadcast_to(view[:, None], shape)
    access = Accesses({x: layout_of(array) or contiguous_strides(array.shape)}).of(node)
    strides = tuple(stride // 8 for stride in view.strides)
    walked = [(n, s) for n, s in zip(access.shape, access.strides, strict=True) if n != 1]
    assert walked == [(n, s) for n, s in zip(view.shape, strides, strict=True) if n != 1]
    assert array.ravel("K")[access.offset] == view[(0,) * view.ndim]


def test_make_plan_asks_for_scratch():
    a, b = given(16, 16), given(16, 16)
    graph = Graph((a, b), (ops.matmul(a, b),))
    plan = make_plan(graph, {}, lambda step: 1000)
    assert plan.scratch == (0,) and plan.arena_bytes == 1024


def test_sweeps_are_told():
    x = given(2000, 200)
    value = call("exp", x - ops.broadcast(ops.reduce_max(x, (1,)), (2000, 200), (0,)))
    plan = planned((x,), [value / ops.broadcast(ops.reduce_sum(value, (1,)), (2000, 200), (0,))])
    (sweep,) = plan.sweeps
    assert f"{sweep.block} of 2000 rows at a time" in plan_text(plan)
