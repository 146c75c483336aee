"""Rows `start`: from the start of a process to its first gradient, the program in a file as users have it."""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.rows.row import Engine, FreshRow

ROOT = Path(__file__).resolve().parents[2]

FUNCTION = """
def f(x):
    return np.sum(np.sin(x) * np.exp(-x * x))

x = np.linspace(0.0, 1.0, 10)
"""
JITGRAD = "import numpy as np\nimport jitgrad" + FUNCTION + "print(repr(float(jitgrad.grad(f)(x).sum())))\n"
JITGRAD_JIT = JITGRAD.replace("jitgrad.grad(f)", "jitgrad.jit(jitgrad.grad(f))")
AUTOGRAD = ("import autograd\nimport autograd.numpy as np" + FUNCTION
            + "print(repr(float(autograd.grad(f)(x).sum())))\n")
JAX = ("import jax\njax.config.update('jax_enable_x64', True)\nimport jax.numpy as np" + FUNCTION
       + "print(repr(float(jax.jit(jax.grad(f))(x).sum())))\n")
TORCH = "import torch as np" + FUNCTION.replace("10)", "10, dtype=np.float64, requires_grad=True)") + """
f(x).backward()
print(repr(float(x.grad.sum())))
"""
NUMBA = """
import math
import numba
import numpy as np

@numba.njit(cache=CACHE)
def gradient(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = (math.cos(x[i]) - 2.0 * x[i] * math.sin(x[i])) * math.exp(-x[i] * x[i])
    return out

print(repr(float(gradient(np.linspace(0.0, 1.0, 10)).sum())))
"""

# What makes each library keep its machine code in a folder, small programs included. jitgrad does so unasked,
# so a cold start is a folder of its own; the others keep none unless told.
CACHES = {
    "jitgrad": {"JITGRAD_CACHE_DIR": "{folder}"},
    "jax": {"JAX_COMPILATION_CACHE_DIR": "{folder}", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"},
    "numba": {"NUMBA_CACHE_DIR": "{folder}"},
}


def process(e: Engine, script: str, *, warm: bool) -> Callable[[int], Callable]:
    """Each sample runs `script` in a process of its own, which finds its machine code cached if `warm`."""
    home = tempfile.TemporaryDirectory(prefix="start-")
    program = Path(home.name) / "program.py"
    program.write_text(script)
    python_path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

    def thunk(sample: int, home=home) -> Callable:      # the default keeps the folder while the row lives
        folder = Path(home.name) / ("cache" if warm else f"cache{sample}")
        cache = CACHES.get(e.name, {}) if warm or e.name == "jitgrad" else {}
        settings = {key: value.format(folder=folder) for key, value in cache.items()}
        environment = os.environ | {"PYTHONPATH": python_path} | settings
        return partial(run, program, environment)
    return thunk


def run(program: Path, environment: dict[str, str]) -> float:
    """What the program printed."""
    done = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-280:])
    return float(done.stdout)


def scripts(warm: bool = False, **script: str) -> dict[str, Callable]:
    return {name: partial(process, script=text, warm=warm) for name, text in script.items()}


# Only under the setting "all": it is what a fresh process has that nobody set up.
ROWS = (
    FreshRow("start.plain", scripts(jitgrad=JITGRAD, autograd=AUTOGRAD, torch=TORCH, jax=JAX),
             settings=("all",)),
    FreshRow("start.jit cold cache", scripts(jitgrad=JITGRAD_JIT, jax=JAX,
                                             numba=NUMBA.replace("CACHE", "False")), settings=("all",)),
    FreshRow("start.jit warm cache", scripts(warm=True, jitgrad=JITGRAD_JIT, jax=JAX,
                                             numba=NUMBA.replace("CACHE", "True")), settings=("all",)),
)
