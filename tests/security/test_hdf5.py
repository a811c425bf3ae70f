"""Laws of trust in HDF5 and netCDF-4: a file that can name any other is refused, and an ordinary one is read.

Each attack is shown twice: refused by us, and, where that is stable, carried out by rasterio alone.
"""

import io
import re
import time
import warnings

import h5py
import numpy as np
import pytest
import rasterio
import rasterio.errors
import rasterio.shutil
from affine import Affine
from geoi2i.core.errors import RasterError
from geoi2i.core.raster.limits import STANDARD
from geoi2i.core.raster.security import inspect
from geoi2i.core.raster.security_hdf5 import check_hdf5
from geoi2i.core.raster.source import RasterSource

HEIGHT, WIDTH = 53, 37
SECRET = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
OLD, NEW = ("earliest", "latest"), ("latest", "latest")


@pytest.fixture
def folder(tmp_path):
    """A folder with a secret, as HDF5 and as bare numbers."""
    with h5py.File(tmp_path / "secret.h5", "w") as out:
        out["d"] = SECRET
    (tmp_path / "secret.raw").write_bytes(SECRET.tobytes())
    return tmp_path


# --- attacks ------------------------------------------------------------------------------------------


def _raw(folder, libver):
    with h5py.File(folder / "in.h5", "w", libver=libver) as out:
        out.create_dataset("d", (HEIGHT, WIDTH), "u1", external=str(folder / "secret.raw"))
    return f'HDF5:"{folder}/in.h5"://d'


def _virtual(folder, libver):
    layout = h5py.VirtualLayout((HEIGHT, WIDTH), "u1")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "d", (HEIGHT, WIDTH))
    with h5py.File(folder / "in.h5", "w", libver=libver) as out:
        out.create_virtual_dataset("d", layout)
    return f'HDF5:"{folder}/in.h5"://d'


def _linked(folder, libver, order=False, others=0, name="d", target="/d"):
    """A link to the secret in a group; with many others, which links of a group stand in a heap."""
    with h5py.File(folder / "in.h5", "w", libver=libver) as out:
        group = out.create_group("g", track_order=order)
        for k in range(others):
            group[f"z{k}"] = np.zeros(1)
        group[name] = h5py.ExternalLink(str(folder / "secret.h5"), target)
    return f'NETCDF:"{folder}/in.h5":g/{name}'


def _altered(folder, shown, pattern, replacement):
    """The attack after a change of bytes that no checksum guards."""
    data = (folder / "in.h5").read_bytes()
    changed, count = re.subn(pattern, replacement, data, flags=re.DOTALL)
    assert count == 1 and len(changed) == len(data) and changed != data
    (folder / "in.h5").write_bytes(changed)
    return shown


def _with_bare_name(folder):
    """Without a character set, whose byte and name length become those of a longer name."""
    return _altered(folder, _linked(folder, OLD, name="abcdefg"),
                    rb"\x01\x08\x40\x07abcdefg", b"\x01\x18\x40\x01\x06bcdefg").replace("abcdefg", "bcdefg")


def _with_wide_length(folder, flags, width):
    name = "abcdefghijkl"[width - 1 :]
    return _altered(folder, _linked(folder, OLD, name="abcdefghijkl"), rb"\x01\x08\x40\x0cabcdefghijkl",
                    bytes([1, flags, 64]) + len(name).to_bytes(width, "little") + name.encode()).replace(
                        "abcdefghijkl", name)


def _in_parts(folder):
    """A file that says that it goes on in a second one."""
    with h5py.File(folder / "in%d.h5", "w", driver="family", memb_size=2048) as out:
        out["d"] = np.zeros((HEIGHT, WIDTH), np.uint8)
        at = out["d"].id.get_offset()
    whole = bytearray((folder / "in0.h5").read_bytes() + (folder / "in1.h5").read_bytes())
    whole[at : at + SECRET.size] = SECRET.tobytes()
    (folder / "in1.h5").write_bytes(whole[2048:])  # whatever else is in the folder under such a name
    return f'HDF5:"{folder}/in0.h5"://d'


def _cut(folder):
    """A file that ends early, so that GDAL takes it for the first of several."""
    data = (folder / "secret.h5").read_bytes()
    (folder / "in0.h5").write_bytes(data[:2048])
    (folder / "in1.h5").write_bytes(data[2048:])
    return f'HDF5:"{folder}/in0.h5"://d'


ATTACKS = {
    "numbers in another file": lambda f: _raw(f, OLD),
    "numbers in another file, new format": lambda f: _raw(f, NEW),
    "numbers in another file, reserved bytes in use": lambda f: _altered(
        f, _raw(f, OLD), rb"(\x07\0\x28\0\x01\0{3}\x01)\0{3}", b"\\1\x05\x06\x07"),
    "numbers in another file, reserved bytes of the header in use": lambda f: _altered(
        f, _raw(f, OLD), rb"(\x07\0\x28\0\x01)\0{3}(?=\x01\0{3})", b"\\1\x05\x06\x07"),
    "a virtual dataset": lambda f: _virtual(f, OLD),
    "a virtual dataset, new format": lambda f: _virtual(f, NEW),
    "a link": lambda f: _linked(f, OLD),
    "a link, new format": lambda f: _linked(f, NEW),
    "a link in order": lambda f: _linked(f, OLD, order=True),
    "a link in order, new format": lambda f: _linked(f, NEW, order=True),
    "a link with a name of its character set": lambda f: _linked(f, OLD, name="dé"),
    "a link with a character set that it need not say": _with_bare_name,
    "a link whose name has a length of 2 bytes": lambda f: _with_wide_length(f, 9, 2),
    "a link whose name has a length of 4 bytes": lambda f: _with_wide_length(f, 10, 4),
    "a link whose name has a length of 8 bytes": lambda f: _with_wide_length(f, 11, 8),
    "a link with reserved bytes in use": lambda f: _altered(
        f, _linked(f, OLD), rb"(\x06\0.\0\0).{3}(?=\x01\x08\x40)", b"\\1\x05\x06\x07"),
    "a link with a long name": lambda f: _linked(f, NEW, name="n" * 256),
    "a link in a continuation of the header": lambda f: _linked(f, NEW, others=7, target="/" * 500 + "d"),
    "a link among many": lambda f: _linked(f, NEW, others=20),
    "a link among many, old format": lambda f: _linked(f, OLD, others=20, order=True),
    "a link among very many": lambda f: _linked(f, NEW, others=2000),
    "a link too large for a heap": lambda f: _linked(f, NEW, others=20, target="/" * 20_000 + "d"),
    "a file in parts": _in_parts,
    "a file that is cut off": _cut,
}


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_file_that_can_name_another_is_refused_and_read_by_rasterio(kind, folder):
    shown = ATTACKS[kind](folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(shown) as data:
            pixels = data.read(1)
    assert np.array_equal(pixels, SECRET) or np.array_equal(pixels[::-1], SECRET)
    for path in (shown, re.search('"(.+)"', shown)[1]):
        with pytest.raises(RasterError, match=r"other files|cut off"):
            RasterSource.open(path)


def _heaped(folder):
    """A file with a fractal heap, for attributes, and where its header is."""
    with h5py.File(folder / "heap.h5", "w", libver=NEW) as out:
        for k in range(20):
            out.attrs[f"a{k}"] = k
    data = bytearray((folder / "heap.h5").read_bytes())
    return data, data.index(b"FRHP")


def _image_of_the_cache(folder):
    data, _ = _heaped(folder)
    return data + b"MDCI" + bytes(60) + len(data).to_bytes(8, "little")


def _heap(folder, at, value):
    data, heap = _heaped(folder)
    data[heap + at] = value
    return data


def _superblock(folder, libver, at, value):
    with h5py.File(folder / "ok.h5", "w", libver=libver) as out:
        out["d"] = SECRET
    data = bytearray((folder / "ok.h5").read_bytes())
    data[at] = value
    return data


HIDDEN = {
    "an image of the cache": _image_of_the_cache,
    "a heap with a filter": lambda f: _heap(f, 7, 3),
    "a heap with long identifiers": lambda f: _heap(f, 5, 17),
    "a heap with blocks of any size": lambda f: _heap(f, 120, 3),
    "a heap with another tree": lambda f: _heap(f, 22, 0),
    "addresses of 4 bytes": lambda f: _superblock(f, OLD, 13, 4),
    "addresses from elsewhere": lambda f: _superblock(f, OLD, 24, 1),
    "addresses from elsewhere, new format": lambda f: _superblock(f, NEW, 12, 1),
    "information for a driver": lambda f: _superblock(f, OLD, 48, 0),
    "an unknown version": lambda f: _superblock(f, NEW, 8, 4),
    "the name of a driver": lambda f: _superblock(f, NEW, 8, 3) + b"NCSAmult",
    "headers that overlap": lambda f: _superblock(f, NEW, 8, 3) + b"OHDR\x02\x03" + (1 << 40).to_bytes(8, "little")
                            + b"OHDR\x02\x03\xff\xff\xff\xff\0\0\0\0" * 20_000 + bytes(2_000_000),
    "too many heaps": lambda f: _superblock(f, NEW, 8, 3) + b"HEAP" * 1_100_000,
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_file_in_which_something_could_hide_is_refused(kind, folder):
    (folder / "in.h5").write_bytes(HIDDEN[kind](folder))
    start = time.process_time()
    with pytest.raises(RasterError, match="other files"):
        inspect(str(folder / "in.h5"), STANDARD)
    assert time.process_time() - start < 9  # 3 s for the slowest on a machine that does nothing else


# --- ordinary files -----------------------------------------------------------------------------------


def _all_sorts(folder, libver):
    noise = np.random.default_rng(3)
    with h5py.File(folder / "in.h5", "w", libver=libver) as out:
        out["d"] = SECRET
        for k in range(30):
            group = out.create_group(f"g{k}/inner", track_order=bool(k % 2))
            group.attrs["text"], group.attrs["flag_masks"] = "words", np.array([1, 8, 64], np.uint8)
            group["near"], group["gone"] = h5py.SoftLink("/d"), h5py.SoftLink("/nowhere")
        rows = out.create_dataset("rows", data=noise.random((200, 100)), chunks=(20, 20), compression="gzip",
                                  shuffle=True, fletcher32=True)
        out["bytes"] = np.void(noise.bytes(50_000))
        out.create_dataset("stretch", (9, 40), "i2", maxshape=(None, None), chunks=(3, 3))[...] = 3
        out.create_dataset("texts", data=["some", "texts"] * 500, dtype=h5py.string_dtype())
        out.create_dataset("ragged", (9,), h5py.vlen_dtype("u1"))[...] = [np.arange(3, dtype="u1")] * 9
        out.create_dataset("objects", data=[out["d"].ref] * 70, dtype=h5py.ref_dtype)
        out.create_dataset("regions", data=[rows.regionref[2:9, :5]] * 70, dtype=h5py.regionref_dtype)
        out.create_dataset("pair", data=np.zeros(3, [("a", "f4"), ("b", "u1", 3)]))
        for k in range(12):
            out["d"].attrs[f"long {k}"] = noise.integers(0, 9, 4000 if libver == NEW else 900, np.int64)
        out["x"] = np.arange(WIDTH)
        out["x"].make_scale("x")
        out["d"].dims[1].attach_scale(out["x"])
        out["kind"] = np.dtype("f8")
    return str(folder / "in.h5")


def _numbers(folder, numbers, libver=NEW, **how):
    with h5py.File(folder / "in.h5", "w", libver=libver) as out:
        for k in range(5):
            out.create_dataset(f"g{k}/d", data=numbers, **how)
    return str(folder / "in.h5")


def _noise(count):
    return np.frombuffer(np.random.default_rng(5).bytes(count), np.uint8)


ORDINARY = {
    "of all sorts": lambda f: _all_sorts(f, OLD),
    "of all sorts, new format": lambda f: _all_sorts(f, NEW),
    "noise": lambda f: _numbers(f, _noise(3_000_000), OLD),
    "noise, new format": lambda f: _numbers(f, _noise(3_000_000)),
    "noise in blocks": lambda f: _numbers(f, _noise(1 << 21).reshape(2048, 1024), chunks=(64, 64)),
    "classes": lambda f: _numbers(f, _noise(2_000_000) % 9, OLD),
    "classes of 8 bytes": lambda f: _numbers(f, (_noise(300_000) % 9).astype("i8"), OLD),
    "numbers as large as addresses": lambda f: _numbers(f, np.arange(300_000), OLD),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_an_ordinary_file_is_looked_at_and_passes(kind, folder):
    assert "HDF5Image" in inspect(ORDINARY[kind](folder), STANDARD).drivers


@pytest.mark.parametrize("libver", [OLD, NEW])
def test_an_ordinary_dataset_is_read(libver, folder):
    with h5py.File(folder / "in.h5", "w", libver=libver) as out:
        out["g/d"] = SECRET
        out["g/d"].attrs["units"] = "1"
    rows = RasterSource.open(f'HDF5:"{folder}/in.h5"://g/d').rows()
    assert np.array_equal(np.concatenate([part.pixels[0] for part in rows]), SECRET)


@pytest.mark.parametrize("options", [{"format": "NC4"}, {"format": "NC4C", "compress": "DEFLATE"}], ids=str)
def test_a_netcdf_file_of_gdal_is_read(options, folder):
    with rasterio.open(folder / "in.tif", "w", driver="GTiff", count=1, height=HEIGHT, width=WIDTH, dtype="uint8",
                       crs="EPSG:32631", transform=Affine(30, 0, 500_000, 0, -30, 4_500_000)) as out:
        out.write(SECRET, 1)
        out.update_tags(1, **{f"note{k}": "text " * 900 for k in range(20)})
    rasterio.shutil.copy(folder / "in.tif", folder / "in.nc", driver="netCDF", **options)
    rows = RasterSource.open(str(folder / "in.nc")).rows()
    assert np.array_equal(np.concatenate([part.pixels[0] for part in rows]), SECRET)


def test_a_damaged_file_of_any_length_is_refused_or_passes(folder):
    """Whatever is cut off or damaged, a look ends with a sentence."""
    data = (folder / "secret.h5").read_bytes()
    noise = np.random.default_rng(9)
    for length in range(9, len(data), 97):
        part = bytearray(data[:length])
        part[8 + noise.integers(length - 8)] = noise.integers(256)
        (folder / "in.h5").write_bytes(part)
        with open(folder / "in.h5", "rb") as file:
            try:
                check_hdf5(file, file.read(io.DEFAULT_BUFFER_SIZE), "in.h5")
            except RasterError:
                continue
