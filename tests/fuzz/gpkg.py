"""GeoPackages: small ones, and mutations of what their tables are, in SQL."""

import sqlite3
from pathlib import Path
from random import Random

from nasty import NUMBERS, TEXTS

# What stands in the way of a table {t} with columns {columns}, one of which is {c}.
_SCHEMES = {
    "a view": "ALTER TABLE {t} RENAME TO {t}_; CREATE VIEW {t} AS SELECT * FROM {t}_",
    "an endless view": "ALTER TABLE {t} RENAME TO {t}_; CREATE VIEW {t} AS WITH RECURSIVE n(i) AS "
                       "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM {t}_ WHERE (SELECT sum(i) FROM n) > 1",
    "a view of itself": "ALTER TABLE {t} RENAME TO {t}_; CREATE VIEW {t} AS SELECT * FROM {t}",
    "a large view": "ALTER TABLE {t} RENAME TO {t}_; CREATE VIEW {t} AS SELECT {large} FROM {t}_",
    "a text table": "ALTER TABLE {t} RENAME TO {t}_; CREATE VIRTUAL TABLE {t} USING fts5({columns}); "
                    "INSERT INTO {t} SELECT {columns} FROM {t}_",
    "a foreign table": "PRAGMA writable_schema = ON; INSERT INTO sqlite_master VALUES ('table', 'v', 'v', 0, "
                       "'CREATE VIRTUAL TABLE v USING VirtualOGR(''../secret.bin'')')",
    "a foreign table instead": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 0, sql = "
                               "'CREATE VIRTUAL TABLE {t} USING VirtualOGR(''../secret.bin'')' WHERE name = '{t}'",
    "a trigger": "CREATE TRIGGER a AFTER INSERT ON {t} BEGIN SELECT load_extension('../secret.bin'); END; "
                 "CREATE TRIGGER b AFTER UPDATE ON {t} BEGIN DELETE FROM {t}; END",
    "a generated column": "ALTER TABLE {t} ADD COLUMN g AS (zeroblob(1000000000))",
    "a large column": "ALTER TABLE {t} DROP COLUMN {c}; ALTER TABLE {t} ADD COLUMN {c} AS (zeroblob(1000000000))",
    "an index": "CREATE INDEX i ON {t} (hex(zeroblob(100000)))",
    "no table": "DROP TABLE {t}", "no column": "ALTER TABLE {t} DROP COLUMN {c}", "no rows": "DELETE FROM {t}",
    "other names": "ALTER TABLE {t} RENAME COLUMN {c} TO other",
    "many rows": "INSERT INTO {t} ({some}) SELECT {some} FROM {t}",
    "another text": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'INTEGER', 'TEXT')",
    "a layer": "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES ('v', 'features', 'v')",
}
_SEEDS = ("a view", "an endless view", "a large view", "a text table", "a foreign table", "a trigger",
          "a generated column")


def variants(path: Path) -> dict[str, bytes]:
    """A GeoPackage whose tiles are in table t, made small, and with each scheme in place of that table."""
    content = path.read_bytes()
    _shrink(path)
    plain = path.read_bytes()
    made = {name: _changed(plain, lambda data, name=name: _apply(data, name, "t", "tile_data")) for name in _SEEDS}
    return {"plain": plain, "whole": content, **made}


def write_ahead(folder: Path, content: bytes) -> tuple[bytes, bytes]:
    """A GeoPackage that says it has a log beside it, and that log, which holds its last change."""
    path = folder / "ahead.gpkg"
    path.write_bytes(content)
    data = sqlite3.connect(path)
    data.execute("PRAGMA journal_mode = WAL")
    data.execute("UPDATE gpkg_contents SET identifier = 'other'")
    data.commit()
    found = path.read_bytes(), path.with_name("ahead.gpkg-wal").read_bytes()
    data.close()
    return found


def change_gpkg(random: Random, content: bytes) -> tuple[bytes, str]:
    """One table: in place of it something else, or a value of it."""
    said = ""

    def change(data: sqlite3.Connection) -> None:
        nonlocal said
        tables = [name for name, in data.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
                  if not name.startswith("sqlite_")]
        table = random.choice((*tables, "t"))
        column = random.choice([row[1] for row in data.execute(f'PRAGMA table_info("{table}")')])
        if random.random() < 0.5:
            said = f"a value of {table}.{column}"
            value = random.choice((random.choice(TEXTS).encode("utf-8", "replace").decode(), None,
                                   b"<VRTDataset/>", random.choice([n for n in NUMBERS if -(2**63) <= n < 2**63])))
            data.execute("PRAGMA ignore_check_constraints = ON")
            data.execute(f'UPDATE OR REPLACE "{table}" SET "{column}" = ?', (value,))
        else:
            name = random.choice(list(_SCHEMES))
            said = f"{name} at {table}.{column}"
            _apply(data, name, table, column)

    return _changed(content, change), said


def _apply(data: sqlite3.Connection, name: str, table: str, column: str) -> None:
    columns = [row[1] for row in data.execute(f'PRAGMA table_info("{table}")')]
    large = ", ".join(f"zeroblob(1000000000) AS {c}" if c == column else c for c in columns)
    data.execute("PRAGMA legacy_alter_table = ON")  # what names the table goes on to name what stands in its place
    data.executescript(_SCHEMES[name].format(t=table, c=column, columns=", ".join(columns), large=large,
                                             some=", ".join(columns[1:]) or columns[0]))


def _shrink(path: Path) -> None:
    data = sqlite3.connect(path, isolation_level=None)
    for name, in data.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        data.execute(f'DROP TRIGGER "{name}"')
    data.execute("PRAGMA page_size = 512")
    data.execute("VACUUM")
    data.close()


def _changed(content: bytes, change) -> bytes:
    data = sqlite3.connect(":memory:", isolation_level=None)
    try:
        data.deserialize(content)
        data.set_progress_handler(lambda: 1, 10_000_000)  # what is endless is for whoever reads it
        change(data)
        return data.serialize()
    finally:
        data.close()
