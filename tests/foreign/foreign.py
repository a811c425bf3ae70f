"""Rasters of other projects through geoi2i, beside gdal_translate and gdalwarp: what is refused, and what differs.

    python tests/foreign/foreign.py FOLDER [--lines lines.jsonl] [--write docs/results/foreign.md]

Every raster below the folder, as far as GDAL opens it with any driver, goes through `geoi2i run -m identity` and,
where it has a CRS, through `geoi2i reproject` onto a grid that gdalwarp then fills too. A line of JSON each says what
became of it. The folders directly in FOLDER are taken for projects. Of rasters that are alike in all that a header says
(project, driver, dtype, bands, colours, masks, CRS), `--alike` are tried. Before, outputs that are not regular files
are offered: none may be replaced.
"""

import argparse
import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import rasterio

HERE = Path(__file__).resolve().parent
LIMIT_S, MOST_PIXELS, ALIKE = 120.0, 4_000_000, 8
_COMPANIONS = (".ovr", ".msk", ".aux", ".rrd", ".xml", ".txt", ".py", ".cpp", ".h", ".html", ".md", ".rst", ".gz",
               ".svg")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lines", type=Path, help="write the lines of JSON here too")
    parser.add_argument("--write", type=Path, help="write the summary here")
    parser.add_argument("--alike", type=int, default=ALIKE, help="rasters of one kind that are tried")
    options = parser.parse_args()
    kept = never_replaced(Path(tempfile.mkdtemp(prefix="geoi2i-foreign-")))
    for sentence in kept:
        print(sentence, file=sys.stderr)
    lines = []
    with (options.lines or Path(os.devnull)).open("w") as out:
        for line in walk(options.folder, options.alike):
            print(json.dumps(line))
            out.write(json.dumps(line) + "\n")
            lines.append(line)
    page = summary(lines, kept)
    if options.write:
        options.write.write_text(page, encoding="utf-8")
    print(page, file=sys.stderr)
    return bool(kept) or any(line["outcome"] in ("bug", "crashed", "slow") for line in lines)


def walk(folder: Path, alike: int = ALIKE):
    """What becomes of every raster below a folder, as records."""
    seen: Counter = Counter()
    child = None
    with tempfile.TemporaryDirectory(prefix="geoi2i-foreign-") as work:
        for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() not in _COMPANIONS):
            kind = kind_of(file, folder)
            if kind is None:
                continue
            seen[kind] += 1
            if seen[kind] > alike:
                continue
            child = child or _Child(work)
            record = {"project": kind[0], "file": str(file.relative_to(folder)), "kind": list(kind[1:])}
            for answer in child.ask(str(file)):
                if answer["job"] != "open":
                    yield {**record, **answer}
            if child.gone:
                child = None
    if child:
        child.close()


def kind_of(file: Path, folder: Path) -> tuple | None:
    """All that a header says of a raster's kind, its project first; None of what GDAL does not open."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with rasterio.open(file) as data:
                if not data.count:
                    return None
                masks = "/".join(sorted({flag.name for flags in data.mask_flag_enums for flag in flags}))
                return (file.relative_to(folder).parts[0], data.driver, "/".join(sorted(set(data.dtypes))),
                        str(data.count), "/".join(colour.name for colour in data.colorinterp[:5]), masks,
                        "CRS" if data.crs else "no CRS")
        except Exception:
            return None


class _Child:
    """A process that tries one raster after the other."""

    def __init__(self, work: str):
        self.work, self.gone = work, False
        self.process = subprocess.Popen([sys.executable, str(HERE / "child.py")], stdin=subprocess.PIPE, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def ask(self, file: str):
        """The answers about a raster; the last one says so where the process died or took too long."""
        self.process.stdin.write(json.dumps({"file": file, "work": self.work, "most_pixels": MOST_PIXELS}) + "\n")
        self.process.stdin.flush()
        timer = threading.Timer(LIMIT_S, self.process.kill)
        timer.start()
        started, job = time.monotonic(), "identity"
        try:
            while line := self.process.stdout.readline():
                answer = json.loads(line)
                if answer["job"] == "end":
                    return
                job = "reproject" if answer["job"] == "identity" else job
                yield answer
        finally:
            timer.cancel()
        self.gone = True
        slow = time.monotonic() - started >= LIMIT_S
        yield {"job": job, "outcome": "slow" if slow else "crashed", "why": f"status {self.process.wait()}"}

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


_COMMANDS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from child import geoi2i
print(json.dumps([geoi2i(command) for command in json.load(sys.stdin)]))
"""


def never_replaced(folder: Path) -> list[str]:
    """Offers outputs that are not regular files to both commands; a sentence for each that was taken or changed."""
    source = folder / "source.tif"
    with rasterio.open(source, "w", driver="GTiff", width=20, height=20, count=1, dtype="uint8", crs="EPSG:32633",
                       transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)) as out:
        out.write(np.ones((1, 20, 20), "uint8"))
    (folder / "inner.tif").mkdir()
    os.mkfifo(folder / "pipe.tif")
    (folder / "victim.tif").write_bytes(source.read_bytes())
    os.symlink(folder / "victim.tif", folder / "link.tif")
    os.symlink(folder / "nowhere.tif", folder / "dangling.tif")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.tif"))
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            os.mknod(folder / "device.tif", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        before = _state(folder)
        commands = [[*job, "-i", str(source), "-o", str(folder / name), "--overwrite"] for name in sorted(before)
                    if name not in ("source.tif", "victim.tif")
                    for job in (["run", "-m", "identity"], ["reproject", "--crs", "EPSG:4326"])]
        done = subprocess.run([sys.executable, "-c", _COMMANDS, str(HERE)], input=json.dumps(commands), text=True,
                              stdout=subprocess.PIPE, timeout=LIMIT_S * len(commands))
        taken = [f"{' '.join(command)} ended with {code}: {said[-300:]}"
                 for command, (code, said) in zip(commands, json.loads(done.stdout), strict=True)
                 if code != 2 and "inner.tif" not in command[-2]]  # into a folder a file may go
        after = _state(folder)
        taken += [f"{name} was changed" for name in before if before[name] != after.get(name)]
    return taken


def _state(folder: Path) -> dict[str, tuple]:
    found = {}
    for path in folder.iterdir():
        status = path.lstat()
        found[path.name] = (status.st_ino, status.st_mode, os.readlink(path) if path.is_symlink() else
                            path.read_bytes() if path.is_file() else None)
    return found


def summary(lines: list[dict], kept: list[str]) -> str:
    """The page: counts by project, and each kind of finding with its numbers and one file."""
    page = ["# Rasters of other projects", "",
            "Printed by `make test-foreign FOLDER=... WRITE=docs/results/foreign.md`: rasters inside the source",
            "packages of other projects, through `geoi2i run -m identity` (compared with what gdal_translate gives:",
            "size, CRS, geotransform, nodata and mask, dtype, bands, colours, palette, scale, units, names, and every",
            "value bit by bit) and `geoi2i reproject` (compared with gdalwarp -et 0 on the same grid with the same",
            "kernel: one count of integers or a thousandth of the range of floats may be off, and 1 % of the pixels",
            "further).", "",
            f"Outputs that are not regular files (pipe, socket, device, link, folder): {len(kept) or 'none'} of them",
            "replaced.", "",
            "| project | rasters | job | same | differs | refused | other |", "|---|---|---|---|---|---|---|"]
    projects = sorted({line["project"] for line in lines})
    for project in projects:
        for job in ("identity", "reproject"):
            mine = [line for line in lines if line["project"] == project and line["job"] == job]
            if mine:
                count = Counter(line["outcome"] for line in mine)
                rest = len(mine) - sum(count[name] for name in ("same", "differs", "refused"))
                page.append(f"| {project} | {len(mine)} | {job} | {count['same']} | {count['differs']} | "
                            f"{count['refused']} | {rest} |")
    groups = defaultdict(list)
    for line in lines:
        if line["outcome"] == "differs":
            for name in line["differs"]:
                groups[line["job"], f"differs: {name}"].append(line)
        elif line["outcome"] != "same":
            groups[line["job"], f"{line['outcome']}: {_pattern(line)}"].append(line)
    page += ["", "| job | finding | rasters | for example |", "|---|---|---|---|"]
    for (job, name), members in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]))):
        page.append(f"| {job} | {name} | {len(members)} | {_example(members[0], name)} |")
    return "\n".join(page) + "\n"


def _pattern(line: dict) -> str:
    """A sentence without what differs from file to file."""
    text = line.get("why", "").strip().splitlines()[-1:] or [""]
    text = text[0].removeprefix("Error: ").replace("|", "/")
    name = os.path.basename(line["file"])
    text = re.sub(rf"\S*{re.escape(name)}\S*", "FILE", text)
    text = re.sub(r"/(?:[\w.+-]+/)+[^\s:,)]*", "PATH", text)
    return re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "N", text)[:160]


def _example(line: dict, name: str) -> str:
    aspect = name.removeprefix("differs: ")
    numbers = ""
    if aspect == "values":
        off = line["pixels"]
        numbers = f": {100 * off['share_values']:.3g} % of the values, {off['largest']:.4g} at most"
    elif aspect == "mask":
        numbers = f": {100 * line['pixels']['share_mask']:.3g} % of the pixels"
    elif aspect in line.get("differs", {}):
        numbers = ": " + " for ".join(str(value)[:70].replace("|", "/") for value in line["differs"][aspect])
    return f"`{line['project']}/{os.path.basename(line['file'])}` ({', '.join(line['kind'][:3])}){numbers}"


if __name__ == "__main__":
    sys.exit(main())
