"""The names of the stages on the road from a Python function to machine code: one vocabulary for
`show`, environment variables, dumps, timings and messages."""

from __future__ import annotations

from .errors import UsageValueError

STAGES = (
    "traced",     # the graph as the function's operations made it
    "optimized",  # after the last pass ("pass:<name>" is the graph after that pass)
    "fused",      # which node lands in which kernel
    "kernels",    # loop nests, target-free
    "plan",       # buffers, arena, order of calls
    "llvm",       # LLVM IR before optimisation
    "asm",        # the machine code
)


def check_stage(stage: str, passes: tuple[str, ...]) -> str:
    """`stage` itself, or an error that lists the stages there are."""
    if stage in STAGES or stage == "all" or (stage.startswith("pass:") and stage[5:] in passes):
        return stage
    known = ", ".join(STAGES) + ", all, " + ", ".join(f"pass:{name}" for name in passes)
    raise UsageValueError(f"there is no stage {stage!r}", f"Stages are: {known}")
