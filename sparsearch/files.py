"""Files that are either whole or absent, and names that stay inside their folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparsearch.errors import ConfigError, ResourceError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full or read-only disk under `path` into a `ResourceError` that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise ResourceError(
                f"cannot write {path}: {error.strerror}; free space or choose another folder, "
                "then run the same command again"
            ) from error
        raise


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file beside `path`, flushes it to disk, then renames it.

    A crash or a full disk leaves `path` as it was.

    Raises:
        ResourceError: the disk is full or not writable.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Atomic write of UTF-8 text."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Atomic write of JSON, readable and in a fixed key order."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`.

    Raises:
        ResourceError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResourceError(f"{path} does not exist") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ResourceError(f"{path} is not valid JSON ({error}); restore it or delete it and run again") from error


def file_digest(path: Path) -> str:
    """BLAKE2b of a file's bytes as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest(value: Any) -> str:
    """BLAKE2b of a JSON-able value as hex; equal values give equal digests whatever their key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused when it would leave `folder` (names come from files that others may have written)."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ConfigError(f"{name!r} points outside {folder}; only files inside it are read")
    return path
