"""The SQLite file under a journal: made, opened and checked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparsearch.errors import ResourceError

VERSION = 1
APPLICATION = 0x73707273  # "sprs" in the file's header: tells a journal from other SQLite files
SCHEMA = {
    # What evaluations cost has a table of its own: a resumed run shares other prefixes and takes other times,
    # while its evaluations are the same.
    "evaluations": "CREATE TABLE evaluations (id INTEGER PRIMARY KEY, panel TEXT NOT NULL, "
    "objective TEXT NOT NULL, allocation BLOB NOT NULL, sequences BLOB NOT NULL, vals BLOB NOT NULL)",
    "spent": "CREATE TABLE spent (evaluation INTEGER PRIMARY KEY, forward_tokens REAL NOT NULL, seconds REAL NOT NULL)",
    "facts": "CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "arrays": "CREATE TABLE arrays (key TEXT NOT NULL, name TEXT NOT NULL, dtype TEXT NOT NULL, "
    "shape TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (key, name))",
}


@contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Turns SQLite's errors and garbled content into a `ResourceError` that names the file and what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ResourceError(
            f"{path} cannot be read or written ({error}); check the disk's space and rights, "
            "then run the same command again"
        ) from error
    except sqlite3.ProgrammingError:
        raise
    except (sqlite3.Error, json.JSONDecodeError) as error:
        raise ResourceError(
            f"{path} is no journal or is damaged ({error}); restore it, or choose another run folder"
        ) from error


def open_writable(path: Path) -> sqlite3.Connection:
    """A connection that writes to `path`, whose tables are created when it is missing or empty."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        # Checked before anything is changed: the file may be somebody else's.
        if blank := _is_blank(connection):
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        if blank:
            _create(connection)
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that reads `path`, also while another process writes it."""
    connection = _connect_read_only(path)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_read_only(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True)
    try:
        connection.execute("PRAGMA user_version")
    except sqlite3.OperationalError:
        # WAL readers need to write beside the file; on read-only media only an immutable one can be read.
        connection.close()
        if path.with_name(f"{path.name}-wal").exists():
            raise
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True)
    return connection


def _is_blank(connection: sqlite3.Connection) -> bool:
    """A new file, or one whose creator was killed before its tables were committed."""
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    return tables == 0 and _pragma(connection, "application_id") == 0


def _create(connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.values():
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={VERSION}")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Whether the file is a journal of this version and holds our tables and nothing else.

    A file from a stranger could otherwise bring views or triggers that run with our queries.
    """
    if _pragma(connection, "application_id") != APPLICATION:
        raise ResourceError(f"{path} is no journal; move it away or choose another run folder")
    if (version := _pragma(connection, "user_version")) > VERSION:
        raise ResourceError(
            f"{path} has journal version {version}, this sparsearch knows up to {VERSION}; update sparsearch"
        )
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    if dict(connection.execute(query)) != SCHEMA:
        raise ResourceError(f"{path} has other tables than a journal; restore it or choose another run folder")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
