"""Laws of trust in GeoPackage: a file in which reading is more than fetching rows is refused before GDAL opens it."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
import rasterio
from affine import Affine
from geoi2i.core.errors import RasterError
from geoi2i.core.raster.limits import STANDARD
from geoi2i.core.raster.security import inspect
from geoi2i.core.raster.source import RasterSource

PIXELS = np.random.default_rng(5).integers(1, 256, (3, 300, 280), np.uint8)
FOR_EVER = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n) SELECT k AS {} FROM n"


def _package(path, pixels=PIXELS, **profile):
    with rasterio.open(path, "w", driver="GPKG", count=len(pixels), height=300, width=280, dtype=str(pixels.dtype),
                       crs="EPSG:32631", transform=Affine(30, 0, 500_000, 0, -30, 4_500_000),
                       **{"tile_format": "PNG"} | profile) as out:
        out.write(pixels)
    return str(path)


@pytest.fixture
def path(tmp_path):
    return _package(tmp_path / "in.gpkg", raster_table="t")


def _changed(path, *statements, schema=True):
    """The same file after some SQL; the schema may be written to as a table."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA writable_schema = {'ON' if schema else 'OFF'}")
        for statement in statements:
            database.execute(statement)
    return path


def _as_view(path, table):
    """A view in the place of a table, with its columns and without an end."""
    with closing(sqlite3.connect(path)) as database:
        names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    columns = ", ".join(f"(k) AS {name}" for name in names)
    return _changed(path, f"ALTER TABLE {table} RENAME TO was", f"CREATE VIEW {table} AS SELECT {columns} FROM "
                    f"({FOR_EVER.format('k')})")


def _defined(path, definition, kind="table", name="x"):
    """With one more row in the schema, as only a damaged or an evil file has."""
    return _changed(path, "PRAGMA writable_schema = ON", "INSERT INTO sqlite_master VALUES "
                    f"('{kind}', '{name}', '{name}', 0, '{definition}')")


def _bytes(path, at, value):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(value)
    return path


def _beside(path, ending, content=b"x"):
    with open(f"{path}{ending}", "wb") as file:
        file.write(content)
    return path


def _through_a_link(path):
    _beside(path, "-wal")
    os.symlink(path, f"{path}.link")
    return f"{path}.link"


def _many(path, count):
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.executemany("INSERT INTO sqlite_master VALUES ('table', ?, ?, 2, ?)",
                             ((f"x{k}", f"x{k}", f"CREATE TABLE x{k}(a)") for k in range(count)))
        database.commit()
    return path


def _pages_twice(path):
    """A table of a few pages that leads to its first page again and again."""
    _changed(path, "CREATE TABLE x(a)", "INSERT INTO x WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n "
             "LIMIT 9000) SELECT 'some text' FROM n")
    with closing(sqlite3.connect(path)) as database:
        size = database.execute("PRAGMA page_size").fetchone()[0]
        page = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'x'").fetchone()[0]
    with open(path, "rb") as file:
        root = file.read()[(page - 1) * size : page * size]
    assert root[0] == 5
    first, second = (int.from_bytes(root[k : k + 2], "big") for k in (12, 14))
    return _bytes(path, (page - 1) * size + second, root[first : first + 4])


ATTACKS = {
    "a view without an end in the place of the systems": (lambda p: _as_view(p, "gpkg_spatial_ref_sys"), "a view"),
    "a view without an end in the place of the contents": (lambda p: _as_view(p, "gpkg_contents"), "a view"),
    "a view without an end in the place of the tiles": (lambda p: _as_view(p, "t"), "a view"),
    "a harmless view": (lambda p: _changed(p, "CREATE VIEW v AS SELECT 1"), "a view"),
    "a view that says it is a table": (lambda p: _defined(p, "CREATE VIEW x AS SELECT 1"), "damaged"),
    "a table of a selection": (lambda p: _defined(p, "CREATE TABLE x AS SELECT 1"), "damaged"),
    "a definition with a comment": (lambda p: _defined(p, "CREATE/**/TABLE x(a)"), "not written"),
    "a virtual table of GDAL": (lambda p: _defined(
        p, 'CREATE VIRTUAL TABLE "x" USING VirtualOGR("/etc/passwd")'), "virtual"),
    "a virtual table of words": (lambda p: _changed(p, "CREATE VIRTUAL TABLE x USING fts5(a)"), "virtual"),
    "a virtual table with a misleading name": (lambda p: _changed(
        p, 'CREATE VIRTUAL TABLE "x USING rtree(" USING fts5(a)'), "virtual"),
    "a spatial index under another name": (lambda p: _changed(
        p, "CREATE VIRTUAL TABLE r USING rtree(id, a, b)", "UPDATE sqlite_master SET name = 's' WHERE name = 'r'"),
        "damaged"),
    "a computed column": (lambda p: _changed(p, "CREATE TABLE x(a, b AS (a + 1))"), "computed"),
    "a stored computed column": (lambda p: _changed(p, "CREATE TABLE x(a, b AS (a + 1) STORED)"), "computed"),
    "a computed column under another name": (lambda p: _changed(
        p, "CREATE TABLE y(a, b AS (a + 1))", "UPDATE sqlite_master SET name = 'X' WHERE name = 'y'"), "damaged"),
    "tables under each other's names": (lambda p: _changed(
        p, "CREATE TABLE x(a)", "CREATE TABLE y(a, b AS (a + 1))",
        "UPDATE sqlite_master SET name = 'X' WHERE name = 'y'"), "damaged"),
    "changes in a log": (lambda p: _beside(p, "-wal"), "-wal"),
    "changes in a journal": (lambda p: _beside(p, "-journal"), "-journal"),
    "changes beside what a link leads to": (_through_a_link, "-wal"),
    "a definition that is none": (lambda p: _defined(p, "CREATE TABLE x(("), "damaged"),
    "a name that is no text": (lambda p: _changed(p, "UPDATE sqlite_master SET name = x'ff' WHERE name = 't'"),
                               "damaged|not written"),
    "a kind that there is not": (lambda p: _defined(p, "CREATE TABLE x(a)", kind="t"), "damaged"),
    "more pages than bytes": (lambda p: _bytes(p, 28, b"\xff\xff\xff\xff"), "damaged"),
    "a page that is used twice": (_pages_twice, "damaged"),
    "pages of zeros": (lambda p: _bytes(p, 100, bytes(4000)), "damaged"),
    "twenty thousand tables": (lambda p: _many(p, 20_000), "more than 10000"),
    "two hundred thousand tables": (lambda p: _many(p, 200_000), "damaged or too large"),
}


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_file_whose_reading_is_more_than_fetching_rows_is_refused_at_once(kind, path):
    attack, sentence = ATTACKS[kind]
    named = attack(path)
    start = time.process_time()
    with pytest.raises(RasterError, match=f"(?s){sentence}.*gdal_translate"):
        inspect(named, STANDARD)
    assert time.process_time() - start < 3


def test_gdal_alone_reads_a_view_without_an_end_for_ever(path):
    _as_view(path, "gpkg_spatial_ref_sys")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", f"import rasterio; rasterio.open({path!r})"], timeout=3,
                       capture_output=True)


def _in_utf_16(path):
    """The same tables in a file of another encoding."""
    with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(f"{path}.new")) as out:
        kept = [out.execute(f"PRAGMA {key} = {database.execute(f'PRAGMA {key}').fetchone()[0]}")
                for key in ("application_id", "user_version")]
        out.execute("PRAGMA encoding = 'UTF-16le'")
        out.executescript("\n".join(line for line in database.iterdump() if "sqlite_sequence" not in line))
    assert kept
    os.replace(f"{path}.new", path)
    return path


def _renamed(path, name):
    os.rename(path, os.path.join(os.path.dirname(path), name))
    return os.path.join(os.path.dirname(path), name)


ORDINARY = {
    "as it is": lambda p: p,
    "under an odd name": lambda p: _renamed(p, "a%20b?mode=rw#c é&x.gpkg"),
    "with empty files beside it": lambda p: _beside(_beside(p, "-wal", b""), "-journal", b""),
    "in UTF-16": _in_utf_16,
    "written through a log": lambda p: _changed(
        p, "PRAGMA journal_mode = WAL", "UPDATE gpkg_contents SET identifier = 'i'"),
    "with a spatial index": lambda p: _changed(
        p, "CREATE TABLE f(id, geom)", 'CREATE VIRTUAL TABLE "rtree_f_geom" USING rtree(id, minx, maxx, miny, maxy)'),
    "with indexes and large values": lambda p: _changed(
        p, "CREATE TABLE \"odd 'name\"\"\"(a TEXT CHECK (a > 1), b BLOB NOT NULL)", "CREATE TABLE [as](\"as\")",
        "CREATE UNIQUE INDEX i ON [as](\"as\")", "INSERT INTO \"odd 'name\"\"\" VALUES (2, zeroblob(9000000))"),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_an_ordinary_file_is_read(kind, path):
    raster = RasterSource.open(ORDINARY[kind](path))
    assert np.array_equal(np.concatenate([part.pixels for part in raster.rows()], 1), PIXELS)


def test_a_file_of_heights_is_read(tmp_path):
    heights = PIXELS[:1].astype(np.float32)
    raster = RasterSource.open(_package(tmp_path / "in.gpkg", heights, tile_format="TIFF"))
    assert np.array_equal(np.concatenate([part.pixels for part in raster.rows()], 1), heights)
