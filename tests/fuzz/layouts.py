"""Folders as somebody may have left them where a command writes: links, pipes, sidecars, remains of other runs."""

import base64
import contextlib
import os
import re
import shutil
import socket
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

from mutate import mutated

# ("file", path, content), where a text names a seed; ("link", path, target); ("folder" | "fifo" | "socket", path);
# ("begun", n): a run of the same command that fails when it moves a file for the n-th time.
Step = tuple

VICTIM = {"keep.txt": b"keep\n", "log.jsonl": b'{"event": "notice"}\n', "e.json": b"{}\n", ".a.tmp": b"keep\n",
          "journal.json": b"{}", "sub/keep.txt": b"keep\n", "sub/a.txt": b"keep\n", "sub/journal.json": b"{}",
          "done-0-00000000.json": b'{"files": {}}', "o.tif": "tiff/block"}
"""A folder that no command was told of."""
_FOLDERS = ("@ROOT@/victim", "../victim", "@ROOT@/victim/sub", "@ROOT@/in", ".")
_TARGETS = (*_FOLDERS, *["@ROOT@/victim/new"] * 2, "@ROOT@/victim/keep.txt", "@ROOT@/victim/e.json",
            "@ROOT@/victim/o.tif", "@ROOT@/in/a.tif", "o.tif", "log.jsonl", "e.json")
_PARTS, _MEMORY = ".geoi2i-parts", ".geoi2i-batch.jsonl"
_STRIPS = ("strip-0-00000000.tif", "mask-0-00000000.tif", "output.tif", "output.aux.xml", "template.vrt",
           "template.tif")
_RECORDS: dict[str, bytes] = {
    "journal.json": b'{"input": {"name": "a.tif", "size": 1}, "model": "identity", "options": {}}',
    "published.json": b'{"size": 1, "time_ns": 1, "sidecar": "<PAMDataset/>"}',
    "done-0-00000000.json": b'{"files": {"strip-0-00000000.tif": 1}, "valid": 1, "undefined": 0, "seconds": 0.1}',
    _MEMORY: b'{"output": "@ROOT@/out/a.tif", "run": "0123456789ab", "size": 1, "time_ns": 1}'}
_LED = tuple(b'{"files": {"%s": 1}}' % name for name in (
    b"../../../victim/keep.txt", b"@ROOT@/victim/keep.txt", b"@ROOT@/in/pipe", b"..", b"\\ud800", b"a" * 5000))
_HOSTILE = (b"", b"{", b"\xff\xfe\0", b"[" * 100_000, b'{"a":' * 50_000, b"null", b"[]", b'"a"', b"9" * 5000,
            b"keep\n", b"\0" * 100)
_WORLD = b"15.0\n0.0\n0.0\n-15.0\n700000.0\n100000.0\n"
_OFFSETS = {"LINE_OFF": 20, "SAMP_OFF": 24, "LAT_OFF": 10, "LONG_OFF": 20, "HEIGHT_OFF": 0, "LINE_SCALE": 20,
            "SAMP_SCALE": 24, "LAT_SCALE": 1, "LONG_SCALE": 1, "HEIGHT_SCALE": 1}
_RPC = "".join([*(f"{key}: {value}\n" for key, value in _OFFSETS.items()),
                *(f"{part}_{kind}_COEFF_{k}: {int(k == 1)}\n" for part in ("LINE", "SAMP") for kind in ("NUM", "DEN")
                  for k in range(1, 21))]).encode()
_WHOLE_NAME = {".msk": "sidecar/msk", ".ovr": "sidecar/ovr", ".aux.xml": "sidecar/aux.xml", ".aux": b"keep\n"}
_STEM = {".tfw": _WORLD, ".tifw": _WORLD, ".wld": _WORLD, "_rpc.txt": _RPC, ".RPB": b"satId = \"a\";\n",
         ".aux": b"keep\n"}
SIDECARS = {*_WHOLE_NAME, *(ending.lower() for ending in _STEM)}


def outputs_of(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The names in the output folder that a command was told to write."""
    named = [text.removeprefix("@OUT@/") + "/index.html" * (option == "--report")
             for option, text in zip(("", *arguments), arguments) if text.startswith("@OUT@/")]
    if "" in named:  # of many, each has the name of its input
        named += [os.path.basename(text) for text in arguments if text.startswith("@IN@/") and text.endswith(".tif")]
    return tuple(name for name in named if name)


def layout_of(random: Random, arguments: tuple[str, ...]) -> tuple[Step, ...]:
    """What stands in the output folder before the command runs."""
    outputs = outputs_of(arguments)
    rasters = [name for name in outputs if name.endswith(".tif")]
    steps = [("begun", random.randrange(3, 10))] if rasters and random.random() < 0.4 else []
    for _ in range(random.choice((1, 1, 2, 3))):
        if rasters and random.random() < 0.6:
            steps += random.choice((_parts, _parts, _sidecars))(random, random.choice(rasters))
        elif "@OUT@/" in arguments and random.random() < 0.6:
            steps += _thing(random, f"out/{_MEMORY}", _RECORDS[_MEMORY])
        else:
            steps += random.choice((_itself, _temporary))(random, random.choice(outputs))
    return tuple(steps)


def _parts(random: Random, output: str) -> list[Step]:
    """The folder of a run's strips: as something else, or with something else in it."""
    parts = f"out/{output}{_PARTS}"
    run = f"{parts}/{random.choice(('@RUN@', '@RUN@', '0123456789ab'))}"
    record = random.choice([name for name in _RECORDS if name != _MEMORY])
    strip = random.choice(_STRIPS[:2])
    inside = random.choice((f"{parts}/lock", f"{parts}/sub", f"{parts}/notes.txt", run, f"{run}/notes.txt",
                            f"{run}/sub", f"{run}/sub/notes.txt", f"{run}/{random.choice(_STRIPS)}",
                            f"{run}/.{record}.@HOST@-@PID@.tmp"))
    return random.choice((
        _thing(random, parts), [("link", parts, random.choice(_TARGETS))],
        [("file", f"{parts}/sub/notes.txt", b"keep\n"), ("file", f"{parts}/notes.txt", b"keep\n")],
        _thing(random, inside), _thing(random, f"{run}/{record}", _RECORDS[record]),
        [("file", f"{run}/journal.json", _RECORDS["journal.json"]),
         ("file", f"{run}/done-0-00000000.json", random.choice(_LED))],
        [("link", f"{run}/{random.choice(_STRIPS)}", "@ROOT@/victim/o.tif")],
        [("link", f"{run}/{strip}", "@ROOT@/victim/o.tif"),
         ("file", f"{run}/done-0-00000000.json", b'{"files": {"%s": @CRC@}, "valid": 1}' % strip.encode())]))


def _sidecars(random: Random, output: str) -> list[Step]:
    """What GDAL would read with an output of this name, left by an earlier one."""
    steps = [("file", f"out/{output}", "tiff/deflate")] if random.random() < 0.3 else []
    for _ in range(random.choice((1, 1, 2))):
        base, endings = random.choice(((output, _WHOLE_NAME), (output.removesuffix(".tif"), _STEM)))
        ending = random.choice(sorted(endings))
        written = random.choice((str, str, str.upper, str.title))(ending)
        link = random.random() < 0.1
        steps.append(("link", f"out/{base}{written}", "@ROOT@/victim/keep.txt") if link else
                     ("file", f"out/{base}{written}", endings[ending]))
    return steps


def _itself(random: Random, output: str) -> list[Step]:
    """The output's own name; a folder of that name, or a link to one, is where the user wants it to go."""
    if output.endswith(".tif") and random.random() < 0.5:
        return [("file", f"out/{output}", "tiff/deflate")]
    steps = _thing(random, f"out/{output}")
    return steps if steps[0][-1] not in _FOLDERS else [("link", f"out/{output}", "@ROOT@/victim/new")]


def _temporary(random: Random, output: str) -> list[Step]:
    folder, last = os.path.split(output)
    name = random.choice((".{}.part", "{}.part", ".{}.@HOST@-@PID@.tmp", ".{}.abcdefgh.tmp", "{}.tmp", "{}~"))
    return _thing(random, os.path.join("out", folder, name.format(last)))


def _thing(random: Random, path: str, record: bytes | None = None) -> list[Step]:
    """Something of that name: mostly a link where a text is expected, or a text that nobody would write."""
    what = random.choice(("link", "link", "file", "file", "folder", "fifo", "socket"))
    if what == "link":
        return [("link", path, random.choice(_TARGETS))]
    if record and random.random() < 0.7:
        changed, _ = mutated(random, ".json", record, random.choice((1, 1, 2)))
        content = random.choice((record, changed, changed, random.choice(_HOSTILE), random.choice(_LED)))
        return [("file", path, content)]
    return [(what, path, random.choice(_HOSTILE))] if what == "file" else [(what, path)]


def told(step: Step) -> str:
    """A step for a person."""
    return " ".join(part if isinstance(part, str) else str(part)[:40] for part in step)


def as_json(layout: tuple[Step, ...]) -> list:
    return [[{"zlib": base64.b64encode(zlib.compress(part)).decode()} if isinstance(part, bytes) else part
             for part in step] for step in layout]


def from_json(steps: list) -> tuple[Step, ...]:
    return tuple(tuple(zlib.decompress(base64.b64decode(part["zlib"])) if isinstance(part, dict) else part
                       for part in step) for step in steps)


def place(layout: tuple[Step, ...], root: Path, content_of: Callable[[str], bytes], begin: Callable[[int], None]
          ) -> set[str]:
    """Takes the steps. Returns the paths, from the root on, that were left by an own run and are still as it left them.

    Args:
        content_of: the bytes of a seed.
        begin: begins a run that fails.
    """
    own: set[str] = set()
    for what, path, *more in [("file", f"victim/{name}", content) for name, content in VICTIM.items()] + list(layout):
        if what == "begun":
            begin(path)
            own = {f"/{found.relative_to(root)}" for found in (root / "out").rglob("*")}
            continue
        own.discard(f"/{_named(root, path).relative_to(root)}")
        with contextlib.suppress(OSError, ValueError):  # an earlier step may leave no place for this one
            _take(what, _named(root, path), more, root, content_of)
    return own


def _take(what: str, path: Path, more: list, root: Path, content_of: Callable[[str], bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    elif what != "folder":
        shutil.rmtree(path)
    if what == "file":
        content, = more
        content = content_of(content) if isinstance(content, str) else content
        if b"@CRC@" in content:
            content = content.replace(b"@CRC@", b"%d" % zlib.crc32(content_of(VICTIM["o.tif"])))
        path.write_bytes(content.replace(b"@ROOT@", os.fsencode(root)))
    elif what == "link":
        path.symlink_to(more[0].replace("@ROOT@", str(root)))
    elif what == "folder":
        path.mkdir(exist_ok=True)
        (path / "notes.txt").write_bytes(b"keep\n")
    else:
        os.mknod(path, 0o644 | (stat.S_IFIFO if what == "fifo" else stat.S_IFSOCK))


def _named(root: Path, path: str) -> Path:
    """A place, where it depends on the process, or on the run that was begun."""
    runs = sorted(found.name for found in root.glob(f"out/*{_PARTS}/*") if re.fullmatch("[0-9a-f]{12}", found.name))
    for key, value in (("@RUN@", (runs or ["0123456789ab"])[0]), ("@HOST@", socket.gethostname()),
                       ("@PID@", str(os.getpid()))):
        path = path.replace(key, value)
    return root / path
