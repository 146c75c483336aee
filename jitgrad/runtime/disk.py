"""Machine code in files: what a process has compiled, the next one loads.

An entry is one object file with the keys it answers: `key symbol` lines, the names it needs from outside, and the
object, behind a checksum. It is written under a temporary name and linked to the name of each of its keys, so that a
reader finds a whole entry or none, and a group of kernels that were compiled together is one file with several names.

Files are code, so they are believed only in a folder, and from files, that belong to this user and that nobody else
may write. Whatever is wrong with one (truncated, flipped bits, somebody else's) makes it absent: it is compiled and
written anew. Whatever is wrong with the folder (read-only, full, no home) makes it silently useless, never an error.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from ..config import config

_MAGIC = b"jitgrad machine code 1\n"
_CHECK_BYTES = 20
_KEY_LENGTH = 40  # hexadecimal digits, see `digest`
_TEMPORARY = ".new"
_STALE_SECONDS = 3600  # a temporary file this old was left by a writer that is gone
_STAMP_SECONDS = 3600  # the time of last use is kept this exactly
_KEEP_SHARE = 0.75  # what eviction leaves of the size allowed
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def digest(*parts: bytes) -> str:
    """A name for `parts` that no other parts have."""
    found = blake2b(digest_size=_KEY_LENGTH // 2)
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


@dataclass(frozen=True)
class Entry:
    """An object file: the symbol of each key, and the names of what it calls outside."""

    symbols: dict[str, str]
    imports: tuple[str, ...]
    code: bytes

    def packed(self) -> bytes:
        keys = "\n".join(f"{key} {symbol}" for key, symbol in self.symbols.items())
        payload = f"{keys}\n\n{' '.join(self.imports)}\n".encode() + self.code
        return _MAGIC + _checksum(payload) + payload


def unpacked(data: bytes) -> Entry | None:
    """The entry that `data` is, None when it is not what was written."""
    start = len(_MAGIC) + _CHECK_BYTES
    payload = data[start:]
    if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : start] != _checksum(payload):
        return None
    keys, _, rest = payload.partition(b"\n\n")
    imports, _, code = rest.partition(b"\n")
    symbols = dict(line.split(" ") for line in keys.decode().split("\n"))
    return Entry(symbols, tuple(imports.decode().split()), code)


def _checksum(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=_CHECK_BYTES).digest()


class Store:
    """The entries in one folder."""

    def __init__(self, folder: str):
        self.folder = folder
        self.hits = self.misses = 0
        self._writable = True  # until a write fails

    def read(self, key: str) -> Entry | None:
        """The entry that answers `key`."""
        found = self._read(key)
        self.hits += found is not None
        self.misses += found is None
        return found

    def _read(self, key: str) -> Entry | None:
        path = os.path.join(self.folder, key)
        try:
            if not _private(os.lstat(self.folder), stat.S_ISDIR):
                return None
            file = os.open(path, _READ)
        except OSError:
            return None
        try:
            about = os.fstat(file)
            if not _private(about, stat.S_ISREG):
                return None
            with os.fdopen(os.dup(file), "rb") as stream:
                entry = unpacked(stream.read())
            if entry is None or key not in entry.symbols:
                return None
            if time.time() - about.st_mtime > _STAMP_SECONDS:
                with suppress(OSError):  # a folder that can only be read answers all the same
                    os.utime(path)
            return entry
        except OSError:
            return None
        finally:
            os.close(file)

    def write(self, entry: Entry) -> None:
        """Keeps `entry` if that can be done. A folder that could not be written to is not tried again."""
        if not self._writable:
            return
        temporary = os.path.join(self.folder, f"{os.getpid()}-{os.urandom(8).hex()}{_TEMPORARY}")
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            if not _private(os.lstat(self.folder), stat.S_ISDIR):
                raise PermissionError
            _write_new(temporary, entry.packed())
            for key in entry.symbols:
                self._name(temporary, os.path.join(self.folder, key))
            if any(key[0] == "0" for key in entry.symbols):  # keys are as good as random: one write in sixteen looks
                self.evict(config.cache_size << 20)
        except OSError:
            self._writable = False
        finally:
            _remove(temporary)

    def _name(self, temporary: str, path: str) -> None:
        """Gives the file one more name, in place of what had it."""
        other = temporary.removesuffix(_TEMPORARY) + "-2" + _TEMPORARY
        try:
            os.link(temporary, other)
        except OSError:  # a file system without links
            with open(temporary, "rb") as file:
                _write_new(other, file.read())
        try:
            os.replace(other, path)
        finally:
            _remove(other)  # still there where both were one file already, or nothing could be replaced

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """(path, status) of every file that is this store's."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return
        for name in names:
            path = os.path.join(self.folder, name)
            if name.endswith(_TEMPORARY) or len(name) == _KEY_LENGTH:
                try:
                    yield path, os.lstat(path)
                except OSError:
                    continue  # another process was quicker

    def evict(self, allowed: int) -> None:
        """Removes what writers left behind, and, when there is more than `allowed` bytes, what was not used for longest."""
        by_file: dict[tuple[int, int], tuple[os.stat_result, list[str]]] = {}
        for path, about in self.files():
            if not path.endswith(_TEMPORARY):
                by_file.setdefault((about.st_dev, about.st_ino), (about, []))[1].append(path)
            elif time.time() - about.st_mtime > _STALE_SECONDS:
                _remove(path)
        total = sum(about.st_size for about, _ in by_file.values())
        if total <= allowed:
            return
        for about, paths in sorted(by_file.values(), key=lambda item: item[0].st_mtime):
            for path in paths:
                _remove(path)
            total -= about.st_size
            if total <= _KEEP_SHARE * allowed:
                return

    def clear(self) -> None:
        """Removes every entry."""
        for path, _ in self.files():
            _remove(path)
        self._writable = True

    def size(self) -> tuple[int, int]:
        """(entries, bytes)."""
        found = [about for path, about in self.files() if not path.endswith(_TEMPORARY)]
        return len(found), sum({(about.st_dev, about.st_ino): about.st_size for about in found}.values())


def _write_new(path: str, data: bytes) -> None:
    with os.fdopen(os.open(path, _NEW, 0o600), "wb") as file:
        file.write(data)


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _private(about: os.stat_result, of_kind) -> bool:
    """Whether a file or folder is of the kind, belongs to this user, and nobody else may write it."""
    if not of_kind(about.st_mode):
        return False
    return os.name == "nt" or (about.st_uid == os.geteuid() and not about.st_mode & 0o022)


def store() -> Store | None:
    """The store that the options name; None when they say that there is to be none, or there is no place for it."""
    named = config.cache_dir
    folder = _user_folder() if named is None else named
    return _store(folder) if folder else None


@lru_cache(maxsize=16)
def _store(folder: str) -> Store:
    # a folder of its own inside the one that is named: that one may be shared, or writable for a group
    return Store(os.path.join(os.path.abspath(os.path.expanduser(folder)), "machine-code"))


@lru_cache(maxsize=1)
def _user_folder() -> str | None:
    """Where this system keeps what programs may throw away."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    return os.path.join(base, "jitgrad") if os.path.isabs(base) else None
