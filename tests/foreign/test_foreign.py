"""The harness on rasters of a few kinds: what is kept is found the same, and what is changed is found."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from compare import compare  # noqa: E402
from foreign import summary  # noqa: E402


def write(path, pixels, crs="EPSG:32633", **facts):
    with rasterio.open(path, "w", driver="GTiff", width=pixels.shape[2], height=pixels.shape[1], count=len(pixels),
                       dtype=pixels.dtype, crs=crs, transform=from_origin(500_000, 5_000_000, 10, 10), **facts) as out:
        out.write(pixels)
    return str(path)


def smooth(count=1, dtype="uint8"):
    rows, cols = np.mgrid[:40, :40]
    return np.stack([(rows * 2 + cols * 3 + 10 * k + 1) for k in range(count)]).astype(dtype)


def test_what_geoi2i_keeps_is_found_the_same_and_the_rest_is_counted(tmp_path):
    place = tmp_path / "rasters" / "project"
    place.mkdir(parents=True)
    write(place / "rgb.tif", smooth(3))
    write(place / "int16.tif", smooth(1, "int16"), nodata=-1)
    write(place / "allnodata.tif", np.zeros((1, 40, 40), "uint8"), nodata=0)
    (place / "words.tif").write_text("words")
    done = subprocess.run([sys.executable, HERE / "foreign.py", tmp_path / "rasters", "--write", tmp_path / "page.md"],
                          capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [(Path(line["file"]).name, line["job"], line["outcome"]) for line in lines] == [
        (name, job, "same") for name in ("allnodata.tif", "int16.tif", "rgb.tif") for job in ("identity", "reproject")]
    page = (tmp_path / "page.md").read_text()
    assert page == summary(lines, []) and "| project | 3 | identity | 3 | 0 | 0 | 0 |" in page
    assert "(pipe, socket, device, link, folder): none of them" in page


@pytest.mark.parametrize("change, found", [
    ({"pixels": smooth() + np.uint8(1)}, "values"), ({"nodata": 0}, "nodata"), ({"crs": "EPSG:32632"}, "CRS"),
    ({"pixels": smooth(1, "int16")}, "dtype"), ({"pixels": smooth(2)}, "bands"), ({"pixels": smooth()[:, 1:]}, "size")])
def test_a_difference_is_found(tmp_path, change, found):
    one = write(tmp_path / "a.tif", smooth())
    other = write(tmp_path / "b.tif", **({"pixels": smooth()} | change))
    assert not compare(one, one, "identity")["differs"]
    assert found in compare(one, other, "identity")["differs"]
