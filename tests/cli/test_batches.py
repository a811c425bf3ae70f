"""Many rasters at once: which files of a folder are inputs, where their results go, and what a name may be."""

import contextlib
import io
import os
import sqlite3
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import rasterio
from geoi2i.cli.main import main
from geoi2i.core.errors import RasterError
from geoi2i.core.raster.listing import find_rasters
from rasterio.transform import from_origin

IDENTITY = ("-m", "identity")
APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(64)


def geoi2i(*arguments, cwd=".", input=""):
    """Runs the command in this process."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), \
            pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input.encode())))
        patch.setattr(sys, "unraisablehook", sys.unraisablehook)
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code or 0
    return subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())


def scene(path, **facts):
    """A GeoTIFF of 40 x 50 pixels."""
    with rasterio.open(path, "w", driver="GTiff", height=40, width=50, count=3, dtype="uint8", crs="EPSG:32633",
                       transform=from_origin(500_000, 4_000_000, 30, 30), **facts) as out:
        out.write(np.random.default_rng(1).integers(1, 250, (3, 40, 50)).astype("uint8"))
    return path


def written(folder):
    """Names of what is in a folder and is no file of the program's own."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")
                  if path.is_file() and not path.name.startswith("."))


def single(path, driver, **facts):
    """A raster of one band in another format; rasterio does not write netCDF."""
    if driver == "netCDF":
        plain = single(path.with_suffix(".tif"), "GTiff")
        subprocess.run(["gdal_translate", "-q", "-of", driver, plain, path], check=True)
        plain.unlink()
        return path
    options = {"width": 16, "height": 12, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"} | facts
    with rasterio.open(path, "w", driver=driver, transform=from_origin(500_000, 5_000_000, 10, 10), **options) as data:
        for k in range(options["count"]):
            data.write(np.arange(192, dtype=options["dtype"]).reshape(12, 16), k + 1)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.mark.parametrize("given", ["in", "in/*.tif", "in/*"])
def test_a_folder_or_a_pattern_makes_the_output_a_folder_even_for_one_file(folder, tmp_path, given):
    scene(folder / "a.tif")
    result = geoi2i("run", "-i", given, "-o", "out", *IDENTITY, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert written(tmp_path / "out") == ["a.tif"]
    result = geoi2i("reproject", "-i", given, "-o", "out 2.1", "--crs", "EPSG:4326", cwd=tmp_path)
    assert result.returncode == 0 and written(tmp_path / "out 2.1") == ["a.tif"], result.stderr


def test_a_list_of_one_makes_the_output_a_folder(folder, tmp_path):
    result = geoi2i("run", "-i", "-", "-o", tmp_path / "out", *IDENTITY, input=str(scene(folder / "a.tif")))
    assert result.returncode == 0 and written(tmp_path / "out") == ["a.tif"]


def test_many_inputs_do_not_go_into_a_file(folder, tmp_path):
    scene(folder / "a.tif")
    result = geoi2i("run", "-i", folder, "-o", tmp_path / "out.tif", *IDENTITY)
    assert result.returncode == 2 and "name a folder" in result.stderr and not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize("name", ["out.png", "out.jp2", "OUT.JPG", "out.img", "out.vrt", "out.nc", "out.ecw",
                                  "out.zip"])
def test_an_output_with_the_ending_of_another_format_is_refused(folder, tmp_path, name):
    source = scene(folder / "a.tif")
    for job in (("run", *IDENTITY), ("reproject", "--crs", "EPSG:4326")):
        result = geoi2i(*job, "-i", source, "-o", tmp_path / name)
        assert result.returncode == 2 and "a GeoTIFF is written" in result.stderr and os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("name", ["out.tif", "OUT.TIFF", "out", "scene.2024.07"])
def test_any_name_of_a_geotiff_is_taken(folder, tmp_path, name):
    assert geoi2i("run", "-i", scene(folder / "a.tif"), "-o", tmp_path / name, *IDENTITY).returncode == 0
    with rasterio.open(tmp_path / name) as data:
        assert data.driver == "GTiff"


def test_hidden_files_and_the_parts_of_runs_are_not_inputs(folder, tmp_path):
    scene(folder / "s.tif")
    (folder / "._s.tif").write_bytes(APPLE_DOUBLE)
    scene(folder / ".hidden.tif")
    for name in (".git", "__MACOSX", "s.tif.geoi2i-parts"):
        (folder / name).mkdir()
    (folder / "__MACOSX" / "._s.tif").write_bytes(APPLE_DOUBLE)
    scene(folder / ".git" / "g.tif")
    scene(folder / "s.tif.geoi2i-parts" / "strip-0-00000000.tif")
    for given in ("in", "in/**"):
        assert [path for path, _ in find_rasters(str(tmp_path / given)).rasters] == [str(folder / "s.tif")]
    result = geoi2i("run", "-i", folder, "-o", tmp_path / "out", *IDENTITY)
    assert result.returncode == 0 and written(tmp_path / "out") == ["s.tif"]


def test_a_folder_takes_what_a_single_input_takes_or_names_it(folder, tmp_path):
    names = {"a.nc": "netCDF", "b.bil": "EHdr", "c.webp": "WEBP", "d.gpkg": "GPKG", "e.img": "HFA", "f.dat": "ENVI",
             "g": "ENVI", "h.gif": "GIF", "i.bmp": "BMP"}
    for name, driver in names.items():
        plain = {"c.webp": {"count": 3}, "h.gif": {}, "i.bmp": {}}.get(name)
        single(folder / name, driver, **({"crs": None} | plain if plain is not None else {}))
    (folder / "j.asc").write_text("ncols 2\nnrows 1\nxllcorner 0\nyllcorner 0\ncellsize 1\n1 2\n")
    (folder / "k.asc").write_text("-----BEGIN PGP SIGNATURE-----\n")
    with sqlite3.connect(folder / "roads.gpkg") as vectors:
        vectors.execute("CREATE TABLE gpkg_contents (table_name TEXT, data_type TEXT)")
        vectors.execute("INSERT INTO gpkg_contents VALUES ('roads', 'features')")
    vectors.close()
    scene(tmp_path / "inner.tif")
    with zipfile.ZipFile(folder / "z.zip", "w") as out:
        out.write(tmp_path / "inner.tif", "inner.tif")
    with tarfile.open(folder / "z.tar", "w") as out:
        out.add(tmp_path / "inner.tif", "inner.tif")
    scene(folder / "version.3")
    (folder / "old.hdf").write_bytes(b"\x0e\x03\x13\x01" + bytes(99))
    for name in ("notes.txt", "README.rst", "scene.map"):
        (folder / name).write_text("words")
    listing = find_rasters(str(folder))
    assert [relative for _, relative in listing.rasters] == sorted([*names, "j.asc"])
    assert all(name in listing.skipped for name in ("z.zip", "z.tar", "version.3", "old.hdf"))
    assert not any(name in listing.skipped for name in ("roads", "k.asc", "notes.txt", "README", "scene.map", "b.hdr"))
    assert "\n" not in listing.skipped
    result = geoi2i("run", "-i", folder, "-o", tmp_path / "out", *IDENTITY)
    assert result.returncode == 0 and listing.skipped.split(": ")[1] in result.stderr, result.stderr
    assert len(written(tmp_path / "out")) == len(names) + 1


def test_a_folder_s_own_results_are_no_inputs(folder, tmp_path):
    for name in ("a.tif", "b.tif"):
        scene(folder / name)
    expected = ["a.tif", "b.tif"]
    runs = [("run", *IDENTITY), ("run", *IDENTITY, "-o", folder / "out"), ("reproject", "--crs", "EPSG:4326"),
            ("run", *IDENTITY, "-o", tmp_path / "elsewhere")]
    for job in runs:
        found = [relative for _, relative in find_rasters(str(folder), results=False).rasters]
        assert found == expected
        result = geoi2i(*job, "-i", folder)
        assert result.returncode == 0, result.stderr
    assert "a result of geoi2i" in result.stderr
    assert len(find_rasters(str(folder)).rasters) == 8, "to look at them is another matter"
    # Those of another folder are inputs like any others, and their own results again are not.
    for _ in range(2):
        result = geoi2i("reproject", "-i", tmp_path / "elsewhere", "--crs", "EPSG:4326", "--overwrite")
        assert result.returncode == 0, result.stderr
    assert written(tmp_path / "elsewhere") == ["a.tif", "a_reprojected.tif", "b.tif", "b_reprojected.tif"]


def test_a_batch_that_runs_again_with_skip_existing_succeeds_and_makes_the_rest(folder, tmp_path):
    for name in "abc":
        scene(folder / f"{name}.tif")
    command = ("run", "-i", folder, "-o", tmp_path / "out", *IDENTITY)
    assert geoi2i(*command).returncode == 0
    assert geoi2i(*command).returncode == 2, "without the option nothing that exists is touched"
    (tmp_path / "out" / "b.tif").unlink()
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in ("a.tif", "c.tif")}
    for _ in range(2):
        result = geoi2i(*command, "--skip-existing")
        assert result.returncode == 0, result.stderr
        assert written(tmp_path / "out") == ["a.tif", "b.tif", "c.tif"]
    assert before == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in ("a.tif", "c.tif")}
    refused = geoi2i(*command, "--skip-existing", "--overwrite")
    assert refused.returncode == 2 and "give one" in refused.stderr


@pytest.mark.parametrize("job", [("run", *IDENTITY), ("reproject", "--crs", "EPSG:32633")])
def test_a_batch_with_tiles_without_data_succeeds(folder, tmp_path, job):
    scene(folder / "full.tif")
    with rasterio.open(scene(folder / "empty.tif", nodata=0), "r+") as data:
        data.write(np.zeros((3, 40, 50), "uint8"))
    result = geoi2i(*job, "-i", folder, "-o", tmp_path / "out")
    assert result.returncode == 0 and "no valid pixel" in result.stderr
    with rasterio.open(tmp_path / "out" / "empty.tif") as data:
        assert not data.dataset_mask().any()
    result = geoi2i(*job, "-i", folder, "-o", tmp_path / "less", "--skip-empty")
    assert result.returncode == 0 and written(tmp_path / "less") == ["full.tif"], result.stderr


def test_bounds_that_a_tile_does_not_touch_leave_it_out(folder, tmp_path):
    scene(folder / "near.tif")
    with rasterio.open(scene(folder / "far.tif"), "r+") as data:
        data.transform = from_origin(900_000, 9_000_000, 10, 10)
    with rasterio.open(folder / "near.tif") as data:
        bounds = ",".join(map(str, data.bounds))
    for job in (("run", *IDENTITY), ("reproject", "--crs", "EPSG:32633")):
        result = geoi2i(*job, "-i", folder, "-o", tmp_path / job[0], "--bounds", bounds)
        assert result.returncode == 3 and "far.tif" in result.stderr, "which may be a mistake"
        result = geoi2i(*job, "-i", folder, "-o", tmp_path / job[0], "--bounds", bounds, "--skip-empty", "--overwrite")
        assert result.returncode == 0 and written(tmp_path / job[0]) == ["near.tif"], result.stderr


def test_what_stands_behind_an_inner_full_stop_is_part_of_the_name(folder, tmp_path):
    for name in ("s.2024.01.tif", "s.2024.02.tif"):
        scene(folder / name)
    single(folder / "scene.v1", "ENVI")
    single(folder / "scene.v2", "ENVI")
    paths = [folder / name for name in ("s.2024.01.tif", "s.2024.02.tif", "scene.v1", "scene.v2")]
    result = geoi2i("run", "-i", "-", "-o", tmp_path / "out", *IDENTITY, input="\n".join(map(str, paths)))
    assert result.returncode == 0, result.stderr
    assert written(tmp_path / "out") == ["s.2024.01.tif", "s.2024.02.tif", "scene.v1.tif", "scene.v2.tif"]


@pytest.mark.parametrize("given", ["/vsizip/z.zip/a.tif", "netcdf:a.nc:Band1", "GTIFF_DIR:1:a.tif",
                                   "/vsicurl/http://x/a.tif"])
def test_beside_what_is_not_a_file_nothing_is_written(tmp_path, given):
    scene(tmp_path / "a.tif")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as out:
        out.write(tmp_path / "a.tif", "a.tif")
    for job in (("run", *IDENTITY), ("reproject", "--crs", "EPSG:4326")):
        result = geoi2i(*job, "-i", given, cwd=tmp_path)
        assert result.returncode == 2 and "name an --output" in result.stderr, result.stderr
    if given.startswith("/vsizip"):
        assert geoi2i("run", "-i", given, "-o", "out.tif", *IDENTITY, cwd=tmp_path).returncode == 0


def test_names_that_are_too_long_are_told_so(tmp_path):
    longest = scene(tmp_path / f"{'x' * 245}.tif")
    result = geoi2i("run", "-i", longest, *IDENTITY)
    assert result.returncode == 2 and "name a shorter --output" in result.stderr and len(os.listdir(tmp_path)) == 1
    assert geoi2i("run", "-i", longest, "-o", tmp_path / "out.tif", *IDENTITY).returncode == 0
    for arguments in (("-i", "y" * 300 + ".tif", "-o", "o.tif"), ("-i", longest, "-o", "y" * 300 + ".tif"),
                      ("-i", longest, "-o", f"{'z' * 300}/out.tif"), ("-i", longest, "-o", "w/" * 3000 + "out.tif")):
        result = geoi2i("run", *arguments, *IDENTITY, cwd=tmp_path)
        assert result.returncode == 2 and any(word in result.stderr for word in ("too long", "shorter")), result.stderr
        assert "Traceback" not in result.stderr


def test_a_line_break_in_a_name_turns_no_line(folder, tmp_path):
    scene(folder / "a.tif")
    scene(folder / "b\nc.tif")
    result = geoi2i("run", "-i", folder, "-o", tmp_path / "out", *IDENTITY)
    assert result.returncode == 3 and "line break" in result.stderr and written(tmp_path / "out") == ["a.tif"]
    assert not any(line.startswith("c.tif") for line in result.stderr.splitlines())


def test_info_shows_the_rasters_of_a_folder(folder):
    scene(folder / "a.tif")
    scene(folder / "b.tif")
    (folder / "c.tif").write_text("words")
    result = geoi2i("info", folder)
    assert result.returncode == 3 and result.stdout.count("raster    ") == 2 and "c.tif" in result.stderr


def test_a_folder_without_rasters_is_told_what_it_holds(folder):
    (folder / "a.hdf").write_bytes(b"\x0e\x03\x13\x01")
    with pytest.raises(RasterError, match=r"a\.hdf"):
        find_rasters(str(folder))
