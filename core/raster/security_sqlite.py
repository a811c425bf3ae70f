"""Refuses GeoPackages whose tables are more than stored rows: reading those could do anything, or never end."""

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from ..errors import RasterError

_OBJECTS, _TEXT_BYTES = 10_000, 1 << 20
# Of SQLite's machine: a second or so for the schema, which no raster has a large one of, and ten for the rows.
_SCHEMA_STEPS, _ROW_STEPS, _STEPS_AT_ONCE = 400_000, 200_000_000, 10_000
# How SQLite writes the definitions of what may be in a schema. It refuses those of another kind or name than stand
# beside them.
_DEFINITIONS = {"table": "CREATE TABLE |CREATE VIRTUAL TABLE ", "index": "CREATE (UNIQUE )?INDEX |$",
                "trigger": "CREATE TRIGGER "}
_VIRTUAL = "CREATE VIRTUAL TABLE "
_RTREE = re.compile(rf'{_VIRTUAL}("(?:[^"]|"")*"|\w+) USING rtree ?\(')
_REMEDY = "convert it with gdal_translate or ogr2ogr, if you trust it."


def check_geopackage(path: str, label: str) -> None:
    """Refuses an SQLite file in which reading a table would do more than fetch its rows.

    Args:
        path: of the file, which starts with the signature of SQLite.
        label: what the file is to the user.

    Raises:
        RasterError: for views, virtual tables that are not a spatial index, computed columns, changes that wait in a
            file beside it, and files that are damaged.
    """
    _check_changes(path, label)
    try:
        with closing(_opened(path)) as database:
            schema = database.execute(
                "SELECT type, name, substr(sql, 1, 1000) FROM sqlite_master LIMIT ?", (_OBJECTS + 1,)).fetchall()
            _allow(database, _ROW_STEPS)
            _check_schema(database, schema, label)
            # A table whose pages are used twice could have more rows than anybody can read.
            (finding,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except (sqlite3.Error, UnicodeError) as error:
        finding = str(error)
    if finding != "ok":
        reason = "".join(c if c.isprintable() else "?" for c in finding[:200])  # may quote the file
        raise RasterError(f"{label} is a GeoPackage that is damaged or too large ({reason}): copy it again, or "
                          f"{_REMEDY}")


def holds_tiles(path: str | os.PathLike) -> bool:
    """Whether a GeoPackage says that it holds a raster, or cannot be asked; nothing of it is trusted."""
    try:
        if not os.path.getsize(path):  # a pipe, say
            return True
        with closing(_opened(path)) as database:
            return bool(database.execute("SELECT 1 FROM gpkg_contents WHERE data_type IN ('tiles', "
                                         "'2d-gridded-coverage') LIMIT 1").fetchall())
    except (sqlite3.Error, OSError, ValueError):
        return True


def _opened(path: str | os.PathLike) -> sqlite3.Connection:
    """The file, for as many steps as a schema takes.

    No lock is taken and nothing is written, as GDAL opens it again for itself.
    """
    uri = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
    database = sqlite3.connect(uri, uri=True, isolation_level=None)
    database.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _TEXT_BYTES)
    for setting in ("trusted_schema = OFF", "ignore_check_constraints = ON", "cell_size_check = ON"):
        database.execute(f"PRAGMA {setting}")
    _allow(database, _SCHEMA_STEPS)
    return database


def _check_changes(path: str, label: str) -> None:
    """GDAL would read changes that another program left beside the file, and they are not inspected here."""
    for start in {path, os.path.realpath(path)}:
        for name in (f"{start}-wal", f"{start}-journal"):
            if os.path.lexists(name) and not (os.path.isfile(name) and not os.path.getsize(name)):
                raise RasterError(f"{label} has changes that are not written yet, in {name}: close the program that "
                                  f"uses the file, or {_REMEDY}")


def _allow(database: sqlite3.Connection, steps: int) -> None:
    """From here on, SQLite gives up after so many steps."""
    left = iter(range(steps // _STEPS_AT_ONCE))
    database.set_progress_handler(lambda: next(left, None) is None, _STEPS_AT_ONCE)


def _check_schema(database: sqlite3.Connection, schema: list[tuple], label: str) -> None:
    if len(schema) > _OBJECTS:
        raise RasterError(f"{label} holds more than {_OBJECTS} tables and indexes: {_REMEDY}")
    for kind, name, definition in schema:
        shown = repr(name)[:60]
        if kind == "view":
            raise RasterError(f"{label} holds a view, {shown}, which is computed as it is read: {_REMEDY}")
        if not (isinstance(name, str) and isinstance(definition, str | None)
                and re.match(_DEFINITIONS.get(kind, "(?!)"), definition or "")):
            raise RasterError(f"{label} holds {shown}, which is not written as SQLite writes a table, an index or a "
                              f"trigger: {_REMEDY}")
        if kind == "table":
            _check_table(database, name, definition or "", f"{label} holds {shown}")


def _check_table(database: sqlite3.Connection, name: str, definition: str, holds: str) -> None:
    if definition.startswith(_VIRTUAL):
        if not _RTREE.match(definition):
            raise RasterError(f"{holds}, a virtual table that could read other files: {_REMEDY}")
        return
    columns = database.execute("SELECT hidden FROM pragma_table_xinfo(?)", (name,)).fetchall()
    if not columns:
        raise RasterError(f"{holds}, which is not a table of that name: {_REMEDY}")
    if any(hidden for (hidden,) in columns):
        raise RasterError(f"{holds}, a table with a column that is computed as it is read: {_REMEDY}")
