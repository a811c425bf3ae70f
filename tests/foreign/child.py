"""The process in which rasters are tried: a request a line, answers a line; it may crash or hang, and is then replaced.

    {"file": ..., "work": folder, "most_pixels": ...}  ->  {"job": "open"|"identity"|"reproject"|"end", "outcome": ...}
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import rasterio
import rasterio.shutil
from compare import compare
from rasterio.warp import transform_bounds

_GDAL_S = 60


def main() -> None:
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        for answer in tried(request["file"], Path(request["work"]), request["most_pixels"]):
            answers.write(json.dumps(answer) + "\n")
        answers.write(json.dumps({"job": "end"}) + "\n")


def tried(file: str, work: Path, most_pixels: int):
    """A raster through every job."""
    try:
        with rasterio.open(file) as data:
            if not data.count:
                return
            facts = {"driver": data.driver, "dtype": "/".join(sorted(set(data.dtypes))), "bands": data.count,
                     "size": [data.height, data.width], "crs": bool(data.crs),
                     "mask": "/".join(sorted({flag.name for flags in data.mask_flag_enums for flag in flags})),
                     "colours": "/".join(colour.name for colour in data.colorinterp[:5]), "rotated":
                     not data.transform.is_rectilinear}
            target = _target(data)
            pixels = data.height * data.width * data.count
    except Exception:  # not a raster
        return
    yield {"job": "open", "outcome": "opened", **facts}
    if pixels > most_pixels:
        yield {"job": "identity", "outcome": "left out", "why": "large"}
        return
    copy = work / "copy.tif"  # decoded by the same libraries: those of JPEG differ from version to version

    def translate(made: str, reference: str) -> None:
        _copy(file, reference)

    yield _job("identity", work, ["run", "-i", file, "-m", "identity", "--device", "cpu"], translate)
    if not target:
        return
    kernel = "nearest" if "palette" in facts["colours"] else "bilinear"

    def warp(made: str, reference: str) -> None:
        _copy(file, copy)
        with rasterio.open(made) as data:
            (work / "target.wkt").write_text(data.crs.to_wkt())
            left, bottom, right, top = data.bounds
            narrow = ["-wo", "XSCALE=1", "-wo", "YSCALE=1"]
            validity = ["-dstalpha"] if facts["mask"] in ("all_valid", "per_dataset") else []
            corners, size = map(repr, (left, bottom, right, top)), map(str, (data.width, data.height))
            subprocess.run(["gdalwarp", "-q", "-et", "0", *narrow, *validity, "-r", kernel, "-t_srs",
                            str(work / "target.wkt"), "-te", *corners, "-ts", *size, copy, reference],
                           capture_output=True, timeout=_GDAL_S)

    yield _job("reproject", work, ["reproject", "-i", file, "--crs", target, "--resampling", kernel, "--no-antialias",
                                    "--tolerance", "0.001", "--device", "cpu"], warp)


def _target(data) -> str | None:
    """A CRS of the same body that is not the raster's."""
    if not data.crs:
        return None
    if data.crs.is_projected:
        geographic = re.search(r'(GEOGCS\[.*\]\]|GEOGCS\[.*?\])', data.crs.to_wkt())
        return "EPSG:4326" if geographic and re.search("WGS|ETRS|NAD|OSGB|Earth|RGF|European|Pulkovo", geographic[0]) \
            else None
    if not data.crs.is_geographic or not re.search("WGS|ETRS|NAD|unknown|Earth|RGF|GRS|European", data.crs.to_wkt()):
        return None
    _, bottom, _, top = transform_bounds(data.crs, data.crs, *data.bounds)
    return "EPSG:3857" if max(abs(bottom), abs(top)) < 85 else "EPSG:6933"


def _job(name: str, work: Path, arguments: list[str], reference) -> dict:
    made, other = work / "made.tif", work / "reference.tif"
    code, said = geoi2i([*arguments, "-o", str(made), "--overwrite", "--no-resume"])
    answer = {"job": name, "code": code}
    try:
        if code:
            why = said[-3000:] if code == 1 else next(iter(said.strip().splitlines()[-1:]), "")
            return {**answer, "outcome": "refused" if code == 2 else "bug", "why": why}
        reference(str(made), str(other))
        if not other.exists():
            return {**answer, "outcome": "no reference", "why": ""}
        found = compare(str(made), str(other), name)
        return {**answer, "outcome": "differs" if found["differs"] else "same", **found}
    except Exception as error:
        return {**answer, "outcome": "not compared", "why": f"{type(error).__name__}: {error}"[:300]}
    finally:
        for path in work.iterdir():
            with contextlib.suppress(OSError):
                path.unlink()


def _copy(file: str, copy: str | Path) -> None:
    """What gdal_translate does."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        rasterio.shutil.copy(file, copy, driver="GTiff")


def geoi2i(arguments: list[str]) -> tuple[int, str]:
    """Exit code and what was said, of the command line in this process."""
    import traceback

    from geoi2i.cli.main import main as run

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            run(arguments)
        except SystemExit as error:
            return int(error.code or 0), said.getvalue()
        except BaseException:
            return 1, said.getvalue() + traceback.format_exc()
    return 0, said.getvalue()


if __name__ == "__main__":
    main()
