"""Whether drawing from a random generator is noticed: its state is compared by the bytes of the object."""

import random

import numpy as np
import pytest

from jitgrad.frontend.randomness import is_random_generator, random_state


class OwnGenerator(np.random.Generator):
    pass


class OwnRandom(random.Random):
    pass


BITS = (np.random.PCG64, np.random.MT19937, np.random.SFC64, np.random.Philox, np.random.PCG64DXSM)
GENERATORS = {
    "random": random.Random(1),
    "derived random": OwnRandom(1),
    "RandomState": np.random.RandomState(1),
    "RandomState of another": np.random.RandomState(np.random.PCG64(1)),
    "derived": OwnGenerator(np.random.PCG64(1)),
    **{bits.__name__: np.random.Generator(bits(1)) for bits in BITS},
}


def draws(generator):
    """Ways to draw that change little: the second of two normal numbers, half a word."""
    if isinstance(generator, random.Random):
        return [generator.random, lambda: generator.gauss(0, 1), lambda: generator.getrandbits(3)]
    if isinstance(generator, np.random.RandomState):
        return [generator.rand, generator.normal, lambda: generator.randint(0, 3, dtype=np.int16)]
    return [
        generator.random,
        generator.normal,
        lambda: generator.integers(0, 3, dtype=np.int32),
        lambda: generator.standard_normal(dtype=np.float32),
    ]


@pytest.mark.parametrize("name", GENERATORS)
def test_every_draw_shows_and_nothing_else_does(name):
    generator = GENERATORS[name]
    assert is_random_generator(generator)
    seen = random_state(generator)
    for draw in draws(generator) * 300:  # more draws than the state has words
        assert random_state(generator) == seen
        draw()
        now = random_state(generator)
        assert now != seen
        seen = now


@pytest.mark.parametrize("name", ["random", "RandomState"])
def test_setting_a_state_shows(name):
    generator = GENERATORS[name]
    seen = random_state(generator)
    generator.seed(12345)
    first = random_state(generator)
    assert first != seen
    generator.seed(12345)
    assert random_state(generator) == first
