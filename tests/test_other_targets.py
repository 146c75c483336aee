"""Every scalar operation and every mathematical function compiles for the targets that are not this machine: PTX, AArch64.

LLVM ends the process on an operation that a target cannot lower, so the compiling is done in a process of its own, all
operations at once; when that dies, halves of them are tried until the culprits are alone and can be named.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import op_samples
import pytest

from jitgrad.backends.math_library import BINARY, definition, symbol_of
from jitgrad.backends.scalar import Emitter, Value, llvm_type
from jitgrad.backends.vector_math import FUNCTIONS
from jitgrad.ir.primitive import PRIMITIVES

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Platform:
    """A target, the lanes that its kernels would use, and how its assembly names what it does not define itself."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    outside: str


PTX = Platform("nvptx64-nvidia-cuda", "sm_80", "+ptx80", 0, r"\.extern \.func[^;]*?(\w+)\s*\(")
NEON = Platform("aarch64-linux-gnu", "neoverse-n1", "", 16, r"\bbl\s+([\w.]+)")
PLATFORMS = [PTX, NEON]


def _is_known(platform: Platform) -> bool:
    llvm.initialize_all_targets()
    try:
        llvm.Target.from_triple(platform.triple)
    except RuntimeError:
        return False
    return True


# --- what is compiled


@dataclass(frozen=True)
class Sample:
    """One function to compile: its text, and the texts it needs declared or defined beside it."""

    label: str
    text: str
    beside: tuple[str, ...]


def _sample(label: str, dtypes, lanes: int, emit) -> Sample:
    emitter = Emitter()
    operands = [Value(f"%x{k}", np.dtype(dtype), lanes) for k, dtype in enumerate(dtypes)]
    out = emitter.spread(emit(emitter, *operands), lanes)
    taken = ", ".join(f"{llvm_type(x.dtype, lanes)} {x.name}" for x in operands)
    kind = llvm_type(out.dtype, lanes)
    head = f'define {kind} @"{label}"({taken}) {{'
    text = "\n".join([head, *emitter.lines, f"  ret {kind} {out.name}", "}"])
    beside = set(emitter.declared)
    for key in emitter.functions:
        found = definition(*key)
        beside |= {found.text, *found.needs}
    return Sample(label, text, tuple(sorted(beside)))


def _lanes(platform: Platform, dtypes) -> int:
    return platform.vector_bytes // max(np.dtype(dtype).itemsize for dtype in dtypes)


def samples(platform: Platform) -> list[Sample]:
    """Every elementwise primitive for every dtype and case of its samples, and every function of the library."""
    found = []
    for name in op_samples.ELEMENTWISE:
        primitive = PRIMITIVES[name]
        for dtype in (d for kind in primitive.samples.kinds for d in op_samples.DTYPES[kind]):
            for number, (shapes, params) in enumerate(op_samples.cases(primitive)):
                if op_samples.supports(primitive, dtype, params):
                    dtypes = [s.dtype if isinstance(s, np.ndarray) else dtype for s in shapes]
                    label = f"{name}.{np.dtype(dtype).name}.{number}"
                    found.append(
                        _sample(label, dtypes, _lanes(platform, dtypes),
                                lambda e, *x, p=primitive, params=params: p.code.emit(e, *x, **params))
                    )  # fmt: skip
    for name in FUNCTIONS:
        for dtype in ("f8", "f4"):
            dtypes = [dtype] * (2 if name in BINARY else 1)
            found.append(
                _sample(f"math.{name}.{dtype}", dtypes, _lanes(platform, dtypes),
                        lambda e, *x, name=name: e.math(name, *x))
            )  # fmt: skip
    return found


def module_text(chosen: list[Sample]) -> str:
    beside = {symbol_of(text): text for sample in chosen for text in sample.beside}
    return "\n".join([*beside.values(), *(sample.text for sample in chosen)])


# --- compiling them

SCRIPT = """
import json, sys
import llvmlite.binding as llvm

triple, cpu, features, text = json.load(sys.stdin)
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
module = llvm.parse_assembly(text)
module.triple = triple
module.verify()
machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=1)
builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
passes = llvm.create_new_module_pass_manager()
passes.add_always_inliner_pass()
passes.run(module, builder)
print(machine.emit_assembly(module))
"""


def assembly(platform: Platform, chosen: list[Sample]) -> str | None:
    """The machine code as text; None if LLVM gave up."""
    job = json.dumps([platform.triple, platform.cpu, platform.features, module_text(chosen)])
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=job, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def culprits(platform: Platform, chosen: list[Sample], most: int = 8) -> list[str]:
    """The labels of (at most about `most`) samples that LLVM gives up on."""
    if assembly(platform, chosen) is not None:
        return []
    if len(chosen) == 1:
        return [chosen[0].label]
    middle = len(chosen) // 2
    found = culprits(platform, chosen[:middle], most)
    return found if len(found) >= most else found + culprits(platform, chosen[middle:], most)


@pytest.mark.parametrize("platform", [p for p in PLATFORMS if _is_known(p)], ids=lambda p: p.triple)
def test_every_operation_compiles_and_calls_nothing_from_outside(platform: Platform) -> None:
    chosen = samples(platform)
    text = assembly(platform, chosen)
    assert text is not None, culprits(platform, chosen)
    ours = {match for sample in chosen for piece in sample.beside for match in re.findall(r"define[^@]*@\"?([\w.]+)", piece)}
    assert set(re.findall(platform.outside, text)) - ours == set()
