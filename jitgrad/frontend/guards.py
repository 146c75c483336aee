"""Whether what a traced function read from its surroundings is still the same, and which arrays it reads now."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import CellType
from typing import Any

import numpy as np

from .trace import contents, owner

MISSING = object()
ATOMS = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype, np.ufunc, type(...), range, slice)


class Place:
    """One watched place: `holder[key]` held `value`."""

    __slots__ = ("holder", "key", "value")

    def __init__(self, holder, key, value):
        self.holder, self.key, self.value = holder, key, value


@dataclass
class Watch:
    """The watched places, by how they are read."""

    mappings: list[Place] = field(default_factory=list)  # holder.get(key)
    cells: list[Place] = field(default_factory=list)  # holder.cell_contents
    items: list[Place] = field(default_factory=list)  # holder[key]
    lengths: list[Place] = field(default_factory=list)  # len(holder)
    attributes: list[Place] = field(default_factory=list)  # getattr(holder, key)
    sets: list[Place] = field(default_factory=list)  # holder, equal to a copy

    def places(self) -> list[Place]:
        """Every place whose value is compared by identity."""
        return self.mappings + self.cells + self.items + self.attributes

    def settle(self) -> None:
        """Lays out what `unchanged` reads: to be called when places were added or hold new values."""
        self._gets = tuple((place.holder.get, place.key, place.value) for place in self.mappings)
        self._cells = tuple((place.holder, place.value) for place in self.cells)
        self._items = tuple((place.holder, place.key, place.value) for place in self.items)
        self._rest = bool(self.lengths or self.attributes or self.sets)

    def unchanged(self) -> bool:
        """Whether each place holds the very object that it held."""
        try:
            for get, key, value in self._gets:
                if get(key, MISSING) is not value:
                    return False
            for cell, value in self._cells:
                if cell.cell_contents is not value:
                    return False
            for holder, key, value in self._items:
                if holder[key] is not value:
                    return False
            if self._rest:
                return self._rest_unchanged()
        except (ValueError, IndexError):  # an emptied cell, a shorter list
            return False
        return True

    def _rest_unchanged(self) -> bool:
        return self._containers_hold() and all(
            getattr(place.holder, place.key, MISSING) is place.value for place in self.attributes
        )

    def _containers_hold(self) -> bool:
        return all(len(place.holder) == place.value for place in self.lengths) and all(
            place.holder == place.value for place in self.sets
        )

    def changes(self) -> list[tuple[Place, object]] | None:
        """The places that hold another object now, with it; None when a container has grown or shrunk."""
        if not self._containers_hold():
            return None
        found = []
        for places, read in (
            (self.mappings, lambda place: place.holder.get(place.key, MISSING)),
            (self.cells, _cell_value),
            (self.items, lambda place: place.holder[place.key]),
            (self.attributes, lambda place: getattr(place.holder, place.key, MISSING)),
        ):
            for place in places:
                now = read(place)
                if now is not place.value:
                    found.append((place, now))
        return found


def _cell_value(place: Place):
    return cell_value(place.holder)


def cell_value(cell: CellType):
    """What the cell holds; MISSING when it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def same_value(old, new) -> bool:
    """Whether `new` can stand where `old` stood without anybody noticing: equal atoms of one type."""
    if old is new:
        return True
    if type(old) is not type(new) or not isinstance(old, ATOMS):
        return False
    if isinstance(old, (float, complex)):  # 0.0 is not -0.0, and nan is nan
        return repr(old) == repr(new)
    if isinstance(old, np.generic):
        return old.dtype == new.dtype and old.tobytes() == new.tobytes()
    return bool(old == new)


def is_ready(array: np.ndarray) -> bool:
    """Whether native code can read the array where it is."""
    return array.flags.aligned and array.dtype.isnative


@dataclass
class Guards:
    """What must still hold for a program to be right, and the outside arrays that it reads.

    `arrays` are passed to the program after the call's arguments; an array that was bound anew in all places where the
    old one was takes its place. `exact` are arrays whose contents the trace depends on, with these contents.
    """

    watch: Watch
    arrays: tuple[np.ndarray, ...]
    exact: tuple[tuple[np.ndarray, object], ...] = ()

    def __post_init__(self):
        self.watch.settle()
        self.shapes = tuple(array.shape for array in self.arrays)
        self.all_ready = all(is_ready(array) for array in self.arrays)

    def are_none(self) -> bool:
        """Whether there is nothing to check and nothing to read."""
        return not (self.arrays or self.exact or self.watch.lengths or self.watch.sets or self.watch.places())

    def current(self) -> tuple[np.ndarray, ...] | None:
        """The outside arrays as they are now; None when something else has changed.

        Whether an array has been given another shape in place is left to the caller, see `shapes_hold`.
        """
        if not self.watch.unchanged() and not self._adopt_changes():
            return None
        if self.exact and not self._contents_hold():
            return None
        return self.arrays if self.all_ready else self.ready_arrays()

    def shapes_hold(self) -> bool:
        """Whether the outside arrays have the shapes that they had."""
        return all(array.shape == shape for array, shape in zip(self.arrays, self.shapes, strict=True))

    def _contents_hold(self) -> bool:
        return all(contents(array) == seen for array, seen in self.exact)

    def ready_arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays as a program takes them: foreign byte order or misalignment is mended by a copy."""
        return tuple(
            array if is_ready(array) else np.array(array, array.dtype.newbyteorder("="), order="C")
            for array in self.arrays
        )

    def _adopt_changes(self) -> bool:
        """Takes over new bindings that make no difference but for the elements of arrays."""
        changes = self.watch.changes()
        if changes is None:
            return False
        bound: dict[int, Any] = {}
        for place, now in changes:
            if same_value(place.value, now):
                continue
            if not self._may_replace(place.value, now) or bound.setdefault(id(place.value), now) is not now:
                return False
        if any(id(place.value) in bound for place in self._unchanged_places(changes)):
            return False  # two names for one array are two arrays now
        self.arrays = tuple(bound.get(id(array), array) for array in self.arrays)
        for place, now in changes:
            place.value = now
        self.watch.settle()
        return True

    def _unchanged_places(self, changes) -> list[Place]:
        changed = {id(place) for place, _ in changes}
        return [place for place in self.watch.places() if id(place) not in changed]

    def _may_replace(self, old, new) -> bool:
        """Whether the program could read `new` where it read `old`."""
        if type(old) is not np.ndarray or type(new) is not np.ndarray:
            return False
        if (old.shape, old.strides, old.dtype) != (new.shape, new.strides, new.dtype):
            return False
        if new.flags.aligned != old.flags.aligned:
            return False
        views = any(array is not old and owner(array) is owner(old) for array in self.arrays)
        return not views and not any(array is old for array, _ in self.exact)
