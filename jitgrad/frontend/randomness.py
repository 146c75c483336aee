"""Random generators that a traced function may draw from, and whether it has.

A state as Python sees it takes 30 us to read, longer than tracing some functions takes: of the generators of Python's and
NumPy's own classes, which keep their state inside of the object, the bytes of the object are compared instead.
"""

from __future__ import annotations

import _random
import ctypes
import pickle
import sys


def random_modules() -> list[str]:
    """The modules with a global random generator that have been imported so far."""
    return [module for module in ("random", "numpy.random") if module in sys.modules]


def global_generators() -> list:
    """The generators behind the functions of these modules."""
    modules = [sys.modules[module] for module in random_modules()]
    return [getattr(module, "_inst", None) or module.mtrand._rand for module in modules]


def is_random_generator(value) -> bool:
    """Whether it is a generator of Python's or NumPy's."""
    if isinstance(value, _random.Random):
        return True
    numpy_random = sys.modules.get("numpy.random")
    return numpy_random is not None and isinstance(value, (numpy_random.Generator, numpy_random.RandomState))


def random_state(generator):
    """A value that is another one when something has been drawn from `generator`, or its state has been set."""
    kind = type(generator)
    if isinstance(generator, _random.Random):
        if kind.__module__ == "random" and kind.__name__ == "Random":
            return _own_bytes(generator, _random.Random), generator.gauss_next  # type: ignore[attr-defined]
        return pickle.dumps(generator.getstate())
    bits = generator._bit_generator if hasattr(generator, "_bit_generator") else generator.bit_generator
    if _is_numpys(kind) and _is_numpys(type(bits)):
        return _own_bytes(generator, kind), _own_bytes(bits, type(bits))
    return pickle.dumps((bits.state, generator.get_state(legacy=False) if hasattr(generator, "get_state") else None))


def _is_numpys(kind: type) -> bool:
    return kind.__module__.startswith("numpy.random.")


def _own_bytes(value, kind: type) -> bytes:
    """What the object holds after its head (type and reference count), in the fields that `kind` declares."""
    head = object.__basicsize__
    return ctypes.string_at(id(value) + head, kind.__basicsize__ - head)
