"""Why a raster cannot be read is told apart: the system, the server, the format and the memory are not damage."""

import errno
import os
import socket
import subprocess
import sys
import zipfile

import pytest
import rasterio.errors
from geoi2i.core.errors import DeviceError, RasterError, why_refused
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.raster.unreadable import unreadable

CONTENTS = {
    "web page": (b"<!DOCTYPE html>\n<html>", "a web page"), "pointer": (b"version https://git-lfs.github.com/spec/v1\n",
                                                                       "Git LFS"),
    "HDF4": (b"\x0e\x03\x13\x01" + bytes(99), "HDF4, a format that is not read here"),
    "PCIDSK": (b"PCIDSK  " + bytes(99), "PCIDSK, a format that is not read here"),
    "AppleDouble": (b"\0\5\x16\7" + bytes(99), "AppleDouble"), "empty": (b"", "it is empty"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "/vsigzip/"), "tar": (bytes(257) + b"ustar" + bytes(300), "/vsitar/"),
    "cut off": (b"II*\0", "damaged or cut off"), "words": (b"words", "not a raster that GDAL can read")}


@pytest.mark.parametrize("case", CONTENTS)
def test_each_content_has_its_sentence(case, tmp_path):
    content, sentence = CONTENTS[case]
    (tmp_path / "in.tif").write_bytes(content)
    with pytest.raises(RasterError, match=sentence) as error:
        RasterSource.open(tmp_path / "in.tif")
    assert ("damaged" in str(error.value)) == (case == "cut off")


@pytest.mark.parametrize("name, format", [("a.ecw", "ECW"), ("a.sid", "MrSID"), ("a.hdf", "HDF4")])
def test_a_format_that_is_not_read_is_known_by_its_ending(name, format, tmp_path):
    (tmp_path / name).write_bytes(bytes(range(1, 99)))
    with pytest.raises(RasterError, match=f"is {format}, a format that is not read here"):
        RasterSource.open(tmp_path / name)


def test_an_archive_says_what_to_name(tmp_path, make_raster):
    path = make_raster("uint8")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as out:
        out.writestr("__MACOSX/._in.tif", b"")
        out.write(path, "deep/in.tif")
    with pytest.raises(RasterError, match="is an archive") as error:
        RasterSource.open(tmp_path / "z.zip")
    named = str(error.value).split("for example ")[1].rstrip(".")
    assert named == f"/vsizip/{tmp_path}/z.zip/deep/in.tif" and RasterSource.open(named).grid.height > 0
    with pytest.raises(RasterError, match="names nothing in the archive: name a file of it, for example"):
        RasterSource.open(f"/vsizip/{tmp_path}/z.zip/other.tif")
    with pytest.raises(RasterError, match="does not exist"):
        RasterSource.open(f"/vsizip/{tmp_path}/none.zip/in.tif")


@pytest.mark.parametrize("number, words", [
    (errno.EMFILE, "ulimit -n"), (errno.ENAMETOOLONG, "shorter"), (errno.ENOMEM, "memory"), (errno.EIO, "failed"),
    (errno.EACCES, "permissions")])
def test_what_the_system_says_has_its_own_remedy(number, words):
    assert words in why_refused(OSError(number, os.strerror(number)))


_OUT_OF_FILES = """
import contextlib, os, resource, sys
from geoi2i.core.raster.source import RasterSource
RasterSource.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
with contextlib.suppress(OSError):
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
try:
    RasterSource.open(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""


def test_too_many_open_files_are_no_damage(make_raster):
    path = make_raster("uint8")
    said = subprocess.run([sys.executable, "-c", _OUT_OF_FILES, path], capture_output=True, text=True).stdout
    assert said.startswith("RasterError") and "too many files open" in said and "damaged" not in said


def test_a_server_that_cannot_be_reached_is_no_damage():
    with socket.socket() as free:  # a port that nobody listens at
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RasterError, match="the server cannot be reached"):
        RasterSource.open(f"http://127.0.0.1:{port}/a.tif")


def test_memory_and_crs_are_no_damage(make_raster):
    path = make_raster("uint8")
    for text in ("Cannot allocate 9 GB", "Out of memory allocating 8 bytes", "Unable to allocate 3 TiB"):
        error = unreadable(path, rasterio.errors.RasterioIOError(text))
        assert isinstance(error, DeviceError) and "memory" in str(error) and "damaged" not in str(error)
    error = unreadable(path, rasterio.errors.CRSError("Unsupported"), about_crs=True)
    assert "a CRS that PROJ cannot hold" in str(error) and "damaged" not in str(error)
