"""The journal: every evaluation of a job, appended to SQLite before the searcher hears of it.

It is the checkpoint: resume is the same searcher again, answered from here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sparsearch.errors import ResourceError
from sparsearch.job.journal_file import journal_errors, open_read_only, open_writable
from sparsearch.space.allocation import Allocation

FILE_NAME = "journal.sqlite"
NUMBERS = "biuf"
"""Kinds of numpy dtypes that are stored; objects would need pickle."""

Key = tuple[str, str, bytes]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One row: an allocation's objective on some sequences of a panel, one value a sequence."""

    id: int
    panel: str
    objective: str
    allocation: Allocation
    sequences: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """What the evaluations of a panel cost together."""

    evaluations: int = 0
    forward_tokens: float = 0.0
    seconds: float = 0.0


class Journal:
    """A job's evaluations, facts and arrays in one SQLite file, with one writer and any number of readers.

    Everything is committed before the call returns, so nothing that was acknowledged is lost when the process
    is killed. A power loss may take the last commits (`synchronous=NORMAL`: no flush per commit), never the
    file's integrity; resume evaluates them again, with the same values.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path

    @classmethod
    def create_or_open(cls, path: str | Path) -> Journal:
        """Opens the journal at `path` for writing, made when it is missing or empty; its folder must exist.

        Raises:
            ResourceError: not a journal, damaged, of a newer version, or the disk is full or read-only.
        """
        path = Path(path)
        with journal_errors(path):
            connection = open_writable(path)
        return cls(connection, path)

    @classmethod
    def read(cls, path: str | Path) -> Journal:
        """Opens the journal at `path` for reading, also while another process writes it.

        Raises:
            ResourceError: missing, not a journal, damaged, or of a newer version.
        """
        path = Path(path)
        if not path.is_file():
            raise ResourceError(f"{path} does not exist; give the folder of a run that has been started")
        with journal_errors(path):
            connection = open_read_only(path)
        return cls(connection, path)

    def close(self) -> None:
        """Closes the file; further calls fail."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(
        self,
        panel: str,
        objective: str,
        allocation: Allocation,
        sequences: Sequence[int],
        values: NDArray[np.float64],
        forward_tokens: float,
        seconds: float,
    ) -> None:
        """Records one evaluation; committed before it returns.

        Args:
            panel: fingerprint or name of the panel.
            objective: name of the objective.
            allocation: what was evaluated.
            sequences: indices into the panel, none of them known for this allocation yet.
            values: the objective, float64 `[sequences]`.
            forward_tokens: what it cost, in forward-token equivalents.
            seconds: how long it took.

        Raises:
            ResourceError: a value is NaN or infinite, or the disk is full; the journal is as it was.
            ValueError: the arguments do not fit each other, or a sequence is known already.
        """
        values = np.asarray(values, dtype="<f8")
        key = (panel, objective, allocation.to_bytes())
        self._check_new(key, sequences, values)
        indices = np.asarray(sequences, dtype="<u4").tobytes()
        row = (*key, indices, values.tobytes())
        with journal_errors(self.path), self._connection:
            cursor = self._connection.execute(
                "INSERT INTO evaluations (panel, objective, allocation, sequences, vals) VALUES (?, ?, ?, ?, ?)",
                row,
            )
            self._connection.execute(
                "INSERT INTO spent VALUES (?, ?, ?)", (cursor.lastrowid, float(forward_tokens), float(seconds))
            )
        self._index.setdefault(key, []).append((indices, row[4]))

    def known(self, panel: str, objective: str, allocation: Allocation) -> dict[int, float]:
        """What is recorded for `allocation`: sequence index to value."""
        found: dict[int, float] = {}
        for indices, values in self._index.get((panel, objective, allocation.to_bytes()), ()):
            found |= zip(_numbers(indices, "<u4"), _numbers(values, "<f8"), strict=True)
        return found

    def rows(self) -> Iterator[Evaluation]:
        """Every evaluation in the order in which it was made."""
        with journal_errors(self.path):
            for number, panel, objective, allocation, indices, values in self._evaluations():
                yield Evaluation(
                    number,
                    panel,
                    objective,
                    Allocation.from_bytes(allocation),
                    tuple(_numbers(indices, "<u4")),
                    tuple(_numbers(values, "<f8")),
                )

    def totals(self) -> dict[str, Totals]:
        """Per panel, what its evaluations cost together."""
        query = (
            "SELECT panel, COUNT(*), SUM(COALESCE(forward_tokens, 0.0)), SUM(COALESCE(seconds, 0.0)) FROM evaluations "
            "LEFT JOIN spent ON spent.evaluation = evaluations.id GROUP BY panel ORDER BY panel"
        )
        with journal_errors(self.path):
            return {panel: Totals(*sums) for panel, *sums in self._connection.execute(query)}

    def fact(self, key: str, default: Any = None) -> Any:
        """The JSON value that `set_fact` stored under `key`."""
        with journal_errors(self.path):
            row = self._connection.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
            return default if row is None else json.loads(row[0])

    def set_fact(self, key: str, value: Any) -> None:
        """Stores a JSON-able value under `key`, in place of an older one."""
        text = json.dumps(value, sort_keys=True, allow_nan=False)
        with journal_errors(self.path), self._connection:
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, text))

    def arrays(self, key: str) -> dict[str, NDArray[Any]] | None:
        """The arrays that `store_arrays` stored under `key`, or None."""
        query = "SELECT name, dtype, shape, data FROM arrays WHERE key = ? ORDER BY name"
        with journal_errors(self.path):
            rows = self._connection.execute(query, (key,)).fetchall()
            return {name: _array(*parts) for name, *parts in rows} or None

    def store_arrays(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Stores named arrays of numbers under `key`, in place of older ones, all or none.

        Raises:
            ResourceError: the disk is full; the journal is as it was.
            ValueError: no arrays, or one that does not hold numbers.
        """
        rows = []
        for name, array in arrays.items():
            if array.dtype.kind not in NUMBERS:
                raise ValueError(f"array {name!r} of {key!r} holds {array.dtype}; numbers or booleans are stored")
            shape = json.dumps(list(array.shape))
            rows.append((key, name, array.dtype.str, shape, np.ascontiguousarray(array).tobytes()))
        if not rows:
            raise ValueError(f"no arrays to store under {key!r}")
        with journal_errors(self.path), self._connection:
            self._connection.execute("DELETE FROM arrays WHERE key = ?", (key,))
            self._connection.executemany("INSERT INTO arrays VALUES (?, ?, ?, ?, ?)", rows)

    @cached_property
    def _index(self) -> dict[Key, list[tuple[bytes, bytes]]]:
        """What is known, still as bytes: 100,000 rows load in a fraction of a second that way."""
        index: dict[Key, list[tuple[bytes, bytes]]] = {}
        shared: dict[bytes, bytes] = {}
        with journal_errors(self.path):
            for _, panel, objective, allocation, indices, values in self._evaluations():
                indices = shared.setdefault(indices, indices)
                index.setdefault((panel, objective, allocation), []).append((indices, values))
        return index

    def _evaluations(self) -> Iterator[tuple[int, str, str, bytes, bytes, bytes]]:
        columns = "id, panel, objective, allocation, sequences, vals"
        query = f"SELECT {columns} FROM evaluations ORDER BY id"
        for row in self._connection.execute(query):
            if len(row[3]) % 2 or len(row[4]) % 4 or 2 * len(row[4]) != len(row[5]):
                raise sqlite3.DatabaseError(f"evaluation {row[0]} is garbled")
            yield row

    def _check_new(self, key: Key, sequences: Sequence[int], values: NDArray[np.float64]) -> None:
        panel, objective, allocation = key
        if values.shape != (len(sequences),) or len(set(sequences)) != len(sequences) or not len(sequences):
            raise ValueError(f"{len(sequences)} sequences, some twice, or values of shape {values.shape}")
        if not np.isfinite(values).all():
            at = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ResourceError(
                f"objective {objective} is {values[at]} on sequence {sequences[at]} of panel {panel} for the "
                f"allocation {_shown(allocation)}; look for NaN in the weights, or for overflow in the dtype "
                "(try model.dtype: float32)"
            )
        known = self.known(panel, objective, Allocation.from_bytes(allocation))
        if not known.keys().isdisjoint(sequences):
            twice = sorted(known.keys() & set(sequences))
            raise ValueError(f"sequences {twice} of panel {panel} are recorded already for {_shown(allocation)}")


def _numbers(data: bytes, dtype: str) -> list[Any]:
    return np.frombuffer(data, dtype=dtype).tolist()


def _shown(allocation: bytes) -> str:
    """The level indices of an allocation, not more than a line can hold."""
    levels = Allocation.from_bytes(allocation).levels
    first = ", ".join(map(str, levels[:24]))
    return f"[{first}, ... of {len(levels)} sites]" if len(levels) > 24 else f"[{first}]"


def _array(dtype: str, shape: str, data: bytes) -> NDArray[Any]:
    try:
        kind = np.dtype(dtype)
        if kind.kind not in NUMBERS:
            raise ValueError(f"dtype {dtype}")
        return np.frombuffer(data, dtype=kind).reshape(json.loads(shape)).copy()
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"a garbled array: {error}") from None
