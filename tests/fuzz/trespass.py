"""What a command must leave as it is, and how what it wrote is read."""

import contextlib
import os
import re
import shutil
import stat
import warnings
from pathlib import Path

from layouts import SIDECARS, outputs_of
from seeds import SECRET

_OWN_PARTS = re.compile(r"lock|[0-9a-f]{12}|pass-.*|(strip|mask|done|output|template|journal|published)\b.*|\..*\.tmp")
_FINISHED = re.compile(r"/out/[^/]+\.geoi2i-parts/[0-9a-f]{12}/done-0-\d{8}\.json")
_OWN_TEMPORARY = re.compile(r"\..*\.(part|tmp)|\.geoi2i-batch\.jsonl")


def listing(root: Path) -> dict[str, tuple]:
    """Everything in the folders that a command can reach: size, time, number and kind."""
    found = {}
    for name in ("in", "cwd", "home", "tmp", "victim", "out"):
        for folder, inner, files in os.walk(root / name):
            links = (path for path in inner if os.path.islink(os.path.join(folder, path)))
            for path in (folder, *(os.path.join(folder, file) for file in (*files, *links))):
                if path in (f"{root}/tmp", f"{root}/out"):
                    continue  # libraries put temporary files there and take them away; the output comes and stays
                facts = os.lstat(path)
                found[path[len(str(root)) :]] = (facts.st_size, facts.st_mtime_ns, facts.st_ino, facts.st_mode)
    return found


def trespass(root: Path, before: dict[str, tuple], own: set[str], code: int, case) -> str | None:
    """Files made or changed beside the output, an output after a failure, bytes from elsewhere in it.

    Args:
        own: paths that an earlier run of the command has left, with which this one may do what it likes.
    """
    after = listing(root)
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    elsewhere = [path for path in changed if not path.startswith("/out/")]
    if elsewhere:
        for name in ("cwd", "home", "tmp"):
            shutil.rmtree(root / name)
            (root / name).mkdir()
        return f"wrote beside its output: {elsewhere[-1]}"
    for path in changed:
        if path in before and path not in own and not _may_change(path, before, after, case):
            done, name = "changed" if path in after else "removed", _shown(path.removeprefix("/out/"))
            inside = re.match(r".*\.geoi2i-parts/", name)
            return f"{done} what stood in {inside[0]}" if inside else \
                f"{done} {name}, {_kind(before[path])} that stood there before"
    return _stray(before, after, code, case) or _secret(root, case) or (code == 0 and _read(root, before, case)) or None


def _may_change(path: str, before: dict[str, tuple], after: dict[str, tuple], case) -> bool:
    """Whether a command may touch what stood in the output folder."""
    name, last = path.removeprefix("/out/"), os.path.basename(path)
    mode, outputs = before[path][3], outputs_of(case.arguments)
    if stat.S_ISDIR(mode) and path in after:
        return stat.S_ISDIR(after[path][3])  # what stands in it is looked at by itself
    parts = next((f"{output}.geoi2i-parts" for output in outputs if name.startswith(f"{output}.geoi2i-parts")), None)
    if parts:
        return stat.S_ISDIR(before[f"/out/{parts}"][3]) and (name == parts or bool(_OWN_PARTS.fullmatch(last)))
    regular = stat.S_ISREG(mode)
    if _OWN_TEMPORARY.fullmatch(last) or name == _given(case, "--log"):  # to which lines are added
        return regular
    replaced = [output for output in outputs if f"/out/{output}" in before] if "--overwrite" in case.arguments else []
    if name in replaced:
        return regular or stat.S_ISLNK(mode)
    return regular and any(_goes_with(name, output) for output in replaced)


def _given(case, option: str) -> str:
    """The name in the output folder that follows an option."""
    found = [after for flag, after in zip(case.arguments, case.arguments[1:]) if flag == option]
    return found[0].removeprefix("@OUT@/") if found else ""


def _goes_with(name: str, output: str) -> bool:
    """Whether GDAL reads a file with that output."""
    stem, low = os.path.splitext(output)[0], name.lower()
    return any(low.startswith(base.lower()) and low[len(base) :] in SIDECARS for base in (output, stem))


def _stray(before: dict[str, tuple], after: dict[str, tuple], code: int, case) -> str | None:
    """What a command left in the output folder without having been told to."""
    if case.kind == "list" and "@OUT@/" in case.arguments:
        return None  # the names of the outputs are in the list
    outputs, many = outputs_of(case.arguments), "@OUT@/" in case.arguments
    folders = tuple(f"{os.path.dirname(name) or name}/" for name in outputs  # which they were told to fill
                    if "/" in name or stat.S_ISDIR(before.get(f"/out/{name}", (0,) * 4)[3]))
    new = sorted(path.removeprefix("/out/") for path in after if path.startswith("/out/") and path not in before)
    inside = tuple(f"{path[5:]}/" for path, facts in before.items() if path.startswith("/out/")
                   and path.endswith(".geoi2i-parts") and stat.S_ISDIR(facts[3]))
    new = [name for name in new if name != _given(case, "--log") and not name.startswith(inside)]
    if code:  # strips that are whole stay for the next run
        kept = {path[5:].split("/")[0] for path in after if _FINISHED.fullmatch(path)}
        new = [name for name in new if name.split("/")[0] not in kept]
    if many and code:  # what is done of many stays, and is remembered
        new = [name for name in new if name != ".geoi2i-batch.jsonl"]
    stray = [name for name in new
             if name.removesuffix(".aux.xml") not in outputs and not f"{name}/".startswith(folders)]
    unfinished = code and case.arguments[0] != "evaluate" and not many  # which keeps what it could measure
    if stray or (unfinished and new):
        return f"left {_shown((stray or new)[0])} in the output folder, with exit code {code}"
    return None


def _secret(root: Path, case) -> str | None:
    """Whether an output holds what its input does not."""
    outputs = [root / "out" / name for name in outputs_of(case.arguments) if name.endswith(".tif")]
    for made in (path for path in outputs if path.is_file() and not path.is_symlink()):
        if case.kind == "layout":
            other = (root / "victim" / "o.tif").read_bytes()
            there = other[len(other) // 2 :][:64] in made.read_bytes()  # strips are put together as they are coded
        else:
            there = b"secret" in case.content and SECRET in _pixels(made)
        if there:
            return "bytes of another file were taken for pixels"
    return None


def _pixels(path: Path) -> bytes:
    import rasterio

    with rasterio.open(path) as data:
        return data.read().tobytes()


def _read(root: Path, before: dict[str, tuple], case) -> str | None:
    """What of an output is read otherwise where it stands than alone."""
    if case.kind != "layout":
        return None
    for name in outputs_of(case.arguments):
        made, alone = root / "out" / name, root / "alone" / name
        if not name.endswith(".tif") or made.is_symlink() or not made.is_file():
            continue
        shutil.rmtree(alone.parent, ignore_errors=True)
        alone.parent.mkdir()
        shutil.copyfile(made, alone)
        beside = Path(f"{made}.aux.xml")
        if beside.is_file() and f"/out/{beside.name}" not in before:
            shutil.copyfile(beside, f"{alone}.aux.xml")
        here, there = _facts(made), _facts(alone)
        differing = [key for key in there if here.get(key) != there[key]]
        if differing:
            return f"{_shown(name)} is read with another {differing[0]} than alone" if here else \
                f"{_shown(name)} cannot be read where it stands"
    return None


def _facts(path: Path) -> dict[str, object]:
    """What a program that opens the raster sees; nothing of one that cannot be opened."""
    import rasterio

    with warnings.catch_warnings(), contextlib.suppress(rasterio.errors.RasterioIOError):
        warnings.simplefilter("ignore")
        with rasterio.open(path) as data:
            masks = data.read_masks()
            return {"size": data.shape, "system": data.crs and data.crs.to_wkt(), "transform": tuple(data.transform),
                    "mask": float((masks != 0).mean()), "overview": data.overviews(1), "RPC": data.rpcs is not None,
                    "nodata": repr(data.nodata), "names": data.descriptions, "pixels": data.checksum(1)}
    return {}


def _shown(name: str) -> str:
    """A name, the same for every raster, so that one fault has one name."""
    return re.sub(r"\b[abcou]\.tif", "o.tif", name)


def _kind(facts: tuple) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(facts[3]), "a file")
