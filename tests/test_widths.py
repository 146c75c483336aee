"""The same bits for every vector width: how a sum is split over lanes belongs to the kernel, not to the machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import jitgrad
from jitgrad.runtime import compile as compiling
from jitgrad.runtime import machine


def programs(x, matrix):
    value, slope = jitgrad.jit(jitgrad.value_and_grad(lambda v: np.sum(np.tanh(v) * np.exp(-v * v) + np.sin(v))))(x)
    f = jitgrad.jit(lambda m: (np.sum(m * m), np.sum(m, axis=0), np.max(m, axis=1), np.var(m, axis=1), np.std(m)))
    columns = jitgrad.jit(lambda m: (np.sum(m * m[0], axis=0), np.min(m, axis=0), np.sum(m[::-1, :-1:2] * m[:, 1::2])))
    pairs = jitgrad.grad(lambda m: np.sum(np.exp(m[:, 0]) * m[:, 1]))(matrix)
    index = np.arange(1000) % 7
    total, binned = jitgrad.value_and_grad(lambda v: np.sum(np.exp(v[index])))(x)
    mean, shares = jitgrad.value_and_grad(lambda v: np.sum(v[index] * v[1000:2000]))(x)
    gathered = [total, binned, mean, shares]
    return [value, slope, *f(matrix), *columns(np.concatenate([matrix, matrix, matrix])), pairs, *gathered]


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_every_width_gives_the_same_bits(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    x, matrix = rng.normal(size=20_011).astype(dtype), rng.normal(size=(130, 77)).astype(dtype)
    expected = programs(x, matrix)
    host = machine.host()
    for width in {16, 32, 64} - {host.vector_bytes}:  # LLVM splits vectors that are wider than the machine's
        monkeypatch.setattr(machine, "host", lambda width=width: replace(host, vector_bytes=width))
        monkeypatch.setattr(compiling, "CODE", compiling.CodeCache(100))
        for got, wanted in zip(programs(x, matrix), expected, strict=True):
            assert got.tobytes() == wanted.tobytes()
