"""Laws of ending: a signal ends a run wherever it is, no file takes memory that is not there, no folder leads out."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from geoi2i.core import memory
from geoi2i.core.errors import DeviceError, RasterError
from geoi2i.core.raster.limits import Limits
from geoi2i.core.raster.source import RasterSource

sys.path.insert(0, str(Path(__file__).parent))
from places import write

# A command that is inside C code for an hour, without the interpreter's lock, after it said so.
STUCK = """
import hashlib
from geoi2i.cli import doctor
from geoi2i.cli.main import main

def stuck(*_):
    print("here", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2**31 - 1)

doctor.command.callback = stuck
main(["doctor"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_what_is_inside_c_code_within_five_seconds(number):
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"here\n"
    time.sleep(0.5)
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == 130 and 4 < time.monotonic() - started < 10
    assert b"ended at once" in process.stderr.read()


def test_a_second_signal_ends_it_at_once():
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"here\n"
    time.sleep(0.5)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130 and time.monotonic() - started < 2


# --- memory -------------------------------------------------------------------------------------------


def sparse(path: Path, side: int, block: int) -> str:
    """A raster of hardly any bytes that claims to be large."""
    with rasterio.open(path, "w", driver="GTiff", count=3, height=side, width=side, dtype="uint8", tiled=True,
                       blockxsize=block, blockysize=block, compress="deflate", sparse_ok=True, interleave="pixel",
                       bigtiff="yes", crs="EPSG:32631", transform=rasterio.Affine(10, 0, 0, 0, -10, 0)):
        pass
    return str(path)


PEAK = r"""
import re, sys
from geoi2i.core import memory
memory.available_memory = lambda: int(sys.argv[1])
from geoi2i.cli.main import main
try:
    main(sys.argv[2:])
finally:
    print(int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) >> 10, file=sys.stderr)
"""


@pytest.mark.parametrize("command", [
    ("evaluate", "-p", "a.tif", "-r", "a.tif", "--metric", "mae"), ("evaluate", "-p", "a.tif", "--seams"),
    ("run", "-m", "identity", "-i", "a.tif", "-o", "o.tif"),
    ("train", "cut", "--source", "a.tif", "--target", "a.tif", "-o", "run", "--steps", "1", "--device", "cpu")])
def test_a_command_refuses_what_needs_more_memory_than_there_is(tmp_path, command):
    """Rows of 100,000 x 8,192 pixels, three of them at a time; 2 kB on the disk."""
    sparse(tmp_path / "a.tif", 100_000, 8192)
    done = subprocess.run([sys.executable, "-c", PEAK, str(2 << 30), *command], cwd=tmp_path, capture_output=True,
                          text=True, timeout=60)
    *_, sentence, peak = done.stderr.splitlines()
    assert done.returncode == 2 and "GB of memory for" in sentence and "are free: " in sentence, done.stderr
    assert int(peak) < 1200 and os.listdir(tmp_path) == ["a.tif"]  # MB


def test_pixels_so_large_that_one_tile_covers_more_than_memory_holds_are_refused(tmp_path):
    sparse(tmp_path / "a.tif", 60_000, 512)
    command = ["reproject", "-i", "a.tif", "--crs", "EPSG:32631", "--resolution", "300000", "-o", "o.tif"]
    done = subprocess.run([sys.executable, "-c", PEAK, str(2 << 30), *command], cwd=tmp_path, capture_output=True,
                          text=True, timeout=60)
    *_, sentence, peak = done.stderr.splitlines()
    assert done.returncode == 2 and "pixels under one tile of the target" in sentence, done.stderr
    assert int(peak) < 1200 and os.listdir(tmp_path) == ["a.tif"]  # MB


def test_the_memory_that_is_there_decides(tmp_path, monkeypatch):
    path = sparse(tmp_path / "a.tif", 40_000, 4096)
    monkeypatch.setattr(memory, "available_memory", lambda: 4 << 30)
    raster = RasterSource.open(path)
    monkeypatch.setattr(memory, "available_memory", lambda: 100 << 20)
    with pytest.raises(DeviceError, match=r"492 MB of memory for rows of its 4096 x 4096 blocks, and 105 MB are free"):
        RasterSource.open(path)
    assert raster.grid.height == 40_000


def test_a_huge_raster_is_made_small_in_the_time_of_decoding_it_once(tmp_path):
    """Blocks of 8,192: a reader that decodes them anew for each line takes half a minute."""
    raster, started = RasterSource.open(sparse(tmp_path / "a.tif", 60_000, 8192)), time.perf_counter()
    assert raster.decimated(512).pixels.shape == (3, 512, 512)
    assert time.perf_counter() - started < 8


# --- what a VRT may name ------------------------------------------------------------------------------


@pytest.fixture
def scenes(tmp_path):
    """A folder with a raster and VRTs of one inside, one outside, and one outside through a link."""
    (tmp_path / "scenes").mkdir()
    for name in ("scenes/in.tif", "secret.tif"):
        write(tmp_path / name, np.full((1, 20, 20), 7, "uint8"))
    (tmp_path / "scenes" / "linked.tif").symlink_to("../secret.tif")
    for vrt, source in (("inside", "in.tif"), ("outside", "../secret.tif"), ("through", "linked.tif")):
        (tmp_path / "scenes" / f"{vrt}.vrt").write_text(
            '<VRTDataset rasterXSize="20" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
            f'<SourceFilename relativeToVRT="1">{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
            "</VRTRasterBand></VRTDataset>")
    return tmp_path / "scenes"


def test_a_vrt_may_name_any_raster_unless_it_is_held_to_a_folder(scenes):
    for name in ("inside", "outside", "through"):
        assert RasterSource.open(str(scenes / f"{name}.vrt")).decimated().pixels.max() == 7
    held = Limits(only_below=(str(scenes),))
    assert RasterSource.open(str(scenes / "inside.vrt"), limits=held)
    for name in ("outside", "through"):
        with pytest.raises(RasterError, match=r"outside of the folder that is worked on: allow it with --only-below"):
            RasterSource.open(str(scenes / f"{name}.vrt"), limits=held)
    for named in (scenes.parent, scenes.parent / "secret.tif"):
        assert RasterSource.open(str(scenes / "outside.vrt"), limits=Limits(only_below=(str(scenes), str(named))))


def test_a_folder_beside_is_not_below(scenes):
    (scenes.parent / "scenes-more").mkdir()
    held = Limits(only_below=(str(scenes),))
    assert not held.covers(str(scenes.parent / "scenes-more" / "a.tif")) and held.covers(str(scenes / "x" / "a.tif"))


@pytest.mark.parametrize("command", [("run", "-m", "identity", "-o", "../out/", "-i"),
                                     ("reproject", "--crs", "EPSG:32632", "-o", "../out/", "-i"),
                                     ("evaluate", "--metric", "mae", "-r", "in.tif", "-p")])
def test_the_batch_of_a_folder_stays_in_it(scenes, command):
    from places import victims

    end = victims.run([*command, "."], scenes)
    assert end.code == 3 and end.text.count("which is outside of the folder that is worked on") >= 2
    allowed = victims.run([*command, ".", "--only-below", ".."], scenes)
    assert "outside of the folder" not in allowed.text
    alone = victims.run([*command[:-1], command[-1], "outside.vrt"], scenes)
    assert "outside of the folder" not in alone.text


# --- HDF5's own search paths --------------------------------------------------------------------------


def test_the_command_line_tells_hdf5_to_look_nowhere():
    program = ("import os\nfrom geoi2i.cli import doctor, main\ndoctor.command.callback = lambda: "
               "print(*(os.environ[f'HDF5_{kind}_PREFIX'] for kind in ('VDS', 'EXT', 'EXTFILE')))\n"
               "main.main(['doctor'])")
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert said.splitlines()[-1].split() == [os.path.join(os.devnull, "none")] * 3
    assert not os.path.exists(os.path.join(os.devnull, "none"))


# --- libraries that crash over damage -----------------------------------------------------------------


@pytest.mark.parametrize("program, words", [("import os; os.abort()", "crashes the library that reads it"),
                                            ("while True: pass", "busy for more than 1 s")])
def test_a_file_that_crashes_its_library_is_refused_and_the_process_lives(tmp_path, monkeypatch, program, words):
    from geoi2i.core.raster import probe

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = np.ones((9, 9), "uint8")
    name = f'HDF5:"{tmp_path}/a.h5"://d'
    assert RasterSource.open(name).grid.height == 9
    monkeypatch.setattr(probe, "_PROGRAM", program)
    monkeypatch.setattr(probe, "_SECONDS", 1)
    assert RasterSource.open(name).grid.height == 9  # known of this state of the file
    os.utime(tmp_path / "a.h5", ns=(1, 1))
    with pytest.raises(RasterError, match=words):
        RasterSource.open(name)


def test_a_file_is_opened_elsewhere_with_no_code_from_the_current_folder(tmp_path, monkeypatch):
    from geoi2i.core.raster import probe

    (tmp_path / "rasterio.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')")
    (tmp_path / "a.nc").write_bytes(b"CDF\1" + bytes(28))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    probe.check_opens("a.nc", ["netCDF"], "a.nc", {})
    assert not (tmp_path / "pwned").exists()
