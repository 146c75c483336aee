"""The libraries that are compared, each behind the same `Engine` face."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import metadata
from types import ModuleType

import numpy as np

from bench.rows.row import Engine

PEERS = ("autograd", "torch", "jax", "numba")
OPTIONAL = ("torch.compile",)           # compiles for half a minute a row, with the system's C++ compiler


def load(name: str, threads: int) -> Engine:
    """The engine called `name`, its library imported and set to `threads`.

    Raises:
        ImportError: the library is not installed.
    """
    return LOADERS[name](threads)


def version(name: str) -> str | None:
    """The installed version of a library, or None."""
    try:
        return metadata.version(name.split(".")[0])
    except metadata.PackageNotFoundError:
        return None


def _jitgrad(threads: int) -> Engine:
    import jitgrad
    return Engine("jitgrad", jitgrad, np, jitgrad.grad, jitgrad.value_and_grad, jitgrad.jit, threads=threads)


def _autograd(threads: int) -> Engine:
    import autograd
    import autograd.numpy
    import autograd.scipy.special
    return Engine("autograd", autograd, autograd.numpy, autograd.grad, autograd.value_and_grad, _as_it_is,
                  threads=threads)


def _jax(threads: int) -> Engine:
    import jax
    import jax.nn
    import jax.numpy
    jax.config.update("jax_enable_x64", True)
    return Engine("jax", jax, jax.numpy, jax.grad, jax.value_and_grad, jax.jit,
                  arrays=jax.numpy.asarray, wait=jax.block_until_ready, threads=threads)


def _torch(threads: int) -> Engine:
    import torch
    torch.set_num_threads(threads)
    return _torch_engine("torch", torch, _as_it_is, threads)


def _torch_compile(threads: int) -> Engine:
    """torch.compile of the loss; its backward pass is compiled with it."""
    import torch
    torch.set_num_threads(threads)
    return _torch_engine("torch.compile", torch, partial(torch.compile, dynamic=False), threads)


def _torch_engine(name: str, torch: ModuleType, forward: Callable, threads: int) -> Engine:
    def value_and_grad(function: Callable, argnums: int | tuple = 0) -> Callable:
        chosen = (argnums,) if isinstance(argnums, int) else argnums
        function = forward(function)

        def run(*arguments):
            tensors = list(arguments)
            for i in chosen:
                tensors[i] = tensors[i].detach().requires_grad_()
            value = function(*tensors)
            grads = torch.autograd.grad(value, [tensors[i] for i in chosen])
            return value.detach(), grads[0] if isinstance(argnums, int) else grads
        return run

    def grad(function: Callable, argnums: int | tuple = 0) -> Callable:
        run = value_and_grad(function, argnums)
        return lambda *arguments: run(*arguments)[1]

    return Engine(name, torch, torch, grad, value_and_grad, _as_it_is, arrays=torch.tensor,
                  host=lambda leaf: leaf.numpy() if isinstance(leaf, torch.Tensor) else np.asarray(leaf),
                  forward=forward, threads=threads)


def _numba(threads: int) -> Engine:
    import numba
    return Engine("numba", numba, np, _none, _none, numba.njit, threads=threads)


def _as_it_is(function: Callable) -> Callable:
    return function


def _none(*_: object) -> Callable:
    raise TypeError("Numba has no gradient; its rows are written by hand")


LOADERS = {"jitgrad": _jitgrad, "autograd": _autograd, "torch": _torch, "torch.compile": _torch_compile, "jax": _jax,
           "numba": _numba}
