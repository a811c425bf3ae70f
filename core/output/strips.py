"""Strips, in which an output is made: whole rows of tiles, each with its overviews, there whole or not at all.

    level 0   |  0  |  1  |  2  |  3  |  4  |      strips of the output: all as high, but the last
    level 1   |     0     |     1     |  2  |      each halves two of the level above
    level 2   |           0           |  1  |

A strip is one GeoTIFF, coded as it will be in the output, and one more for its mask where it has one. It is
written under another name, flushed to the disk and renamed; then a record with its checksums says that it is
there. Strips of level 0 do not need each other, so that they can be made in any order, by anybody.
"""

import contextlib
import io
import json
import math
import re
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import rasterio
import rasterio.errors
import rasterio.shutil
from rasterio._err import CPLE_BaseError

from ..documents import decode, parse_json
from ..errors import RasterError
from ..files import Folder, checksum, remove_unfinished
from ..folders import free_bytes
from ..raster.opening import GDAL_SETTINGS
from ..raster.tiff import Tag
from .cog import COLOUR_TAGS, NODATA, Image, read_strip, write_cog
from .cog import Strip as CogStrip
from .creation import STANDARD, CreationOptions
from .metadata import with_domains
from .overviews import halve
from .profile import BLOCK, OutputSpec, template

_STRIP_BYTES, _RECORD_BYTES, _FILE_BYTES = 4 << 20, 1 << 16, 64 << 30
ASSEMBLED = "output.tif"
FILES, RECORDS = re.compile(r"(?:strip|mask)-\d+-\d{8}\.tif"), re.compile(r"done-\d+-\d{8}\.json")
"""Names of the files of a strip, and of the record that says that it is there."""


class Strip:
    """The pixels of a strip: whole tiles, so filled up with zeros to the right and below."""

    def __init__(self, level: int, index: int, height: int, width: int, spec: OutputSpec, block: int = BLOCK):
        shape = -(-height // block) * block, -(-width // block) * block
        inside = slice(None), slice(height), slice(width)
        self.level, self.index, self.height = level, index, height
        self.stored = np.zeros((len(spec.bands), *shape), spec.dtype)
        self.pixels = self.stored[inside]
        """(C,h,W), a view of what is stored."""
        self.mask = self.stored_mask = None
        if spec.mask:
            self.stored_mask = np.zeros((1, *shape), np.uint8)
            self.mask = self.stored_mask[inside]
            self.mask[:] = 255

    def put(self, row: int, pixels: np.ndarray, mask: np.ndarray | None) -> None:
        """Copies rows into place: one block of memory, where many pieces would fragment it."""
        rows = slice(row, row + pixels.shape[1])
        self.pixels[:, rows] = pixels
        if mask is not None and self.mask is not None:
            self.mask[:, rows] = mask


def strip_rows(specs: tuple[OutputSpec, ...]) -> int:
    """How high the strips of outputs that are made together are: some MB, in whole tiles."""
    row_bytes = max(spec.grid.width * (len(spec.bands) + 1) * np.dtype(spec.dtype).itemsize for spec in specs)
    return max(BLOCK, _STRIP_BYTES // row_bytes // BLOCK * BLOCK)


@dataclass(frozen=True)
class Strips:
    """The strips of one output, or those that one segment of a run leaves for the next, in a folder."""

    path: Path
    """The output."""
    folder: Folder
    spec: OutputSpec
    rows: int
    """Height of a strip in pixels, at every level."""
    segment: str | None = None
    """Which segment of a run leaves them for the next, and so without overviews; None: they are the output's own."""
    creation: CreationOptions = STANDARD

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level, the output's own first."""
        sizes = [(self.spec.grid.height, self.spec.grid.width)]
        while max(sizes[-1]) > self.creation.block and not self.segment:
            height, width = sizes[-1]
            sizes.append((-(-height // 2), -(-width // 2)))
        return tuple(sizes)

    def count(self, level: int = 0) -> int:
        """Strips of a level."""
        return -(-self.sizes[level][0] // self.rows)

    def part(self, index: int) -> tuple[int, int]:
        """First row of a strip of the output, and one past its last."""
        return index * self.rows, min((index + 1) * self.rows, self.spec.grid.height)

    def log_record(self, index: int) -> dict[str, str | int]:
        """What a log says of which strip it is."""
        first, stop = self.part(index)
        segment = {"segment": self.segment} if self.segment else {}
        return {"output": str(self.path), **segment, "strip": index, "first row": first, "rows": stop - first}

    def made(self) -> list[bool]:
        """Whether each strip of the output is there."""
        return [self.record(0, k) is not None for k in range(self.count())]

    def new(self, level: int, index: int) -> Strip:
        """A strip without pixels."""
        height, width = self.sizes[level]
        return Strip(level, index, min(self.rows, height - index * self.rows), width, self.spec, self.creation.block)

    def write(self, strip: Strip, counts: dict[str, float] | None = None) -> None:
        """Makes a strip durable; with it the record that says so."""
        with writing(self.path, self.spec):
            files = {}
            arrays: list[tuple[str, np.ndarray, int | None]] = [
                (_file(strip.level, strip.index), strip.stored, self.spec.bits)]
            if strip.stored_mask is not None:
                mask = (strip.stored_mask != 0).view(np.uint8)
                arrays.append((_file(strip.level, strip.index, "mask"), mask, 1))
            for name, pixels, bits in arrays:
                tiles = self.creation.tiles(str(pixels.dtype), bits)
                with _encoded(pixels, tiles) as content, self.folder.replacing(name) as file:
                    file.write(content)
                    files[name] = zlib.crc32(content)
            with self.folder.replacing(_record(strip.level, strip.index)) as file:
                file.write(json.dumps({"files": files, **(counts or {})}).encode())

    def read(self, level: int, index: int) -> Strip:
        """A strip from its files."""
        strip = self.new(level, index)
        for name, stored in ((_file(level, index), strip.stored), (_file(level, index, "mask"), strip.stored_mask)):
            if stored is not None:
                with quiet(), rasterio.Env(**GDAL_SETTINGS), \
                        rasterio.MemoryFile(self._content(name)) as memory, memory.open(driver="GTiff") as data:
                    data.read(out=stored)
        return strip

    def record(self, level: int, index: int) -> dict | None:
        """What the record of a strip says; None where there is none, or one of another form."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            found = parse_json(decode(self.folder.read(_record(level, index), _RECORD_BYTES)))
            kinds = "strip", *["mask"] * self.spec.mask
            numbers = [*found["files"].values(), *(value for key, value in found.items() if key != "files")]
            if sorted(found["files"]) == sorted(_file(level, index, kind) for kind in kinds) and all(
                    isinstance(number, int | float) and math.isfinite(number) for number in numbers):
                return found
        return None

    def forget_damaged(self) -> None:
        """Removes every record whose files are not what it says, and all files that no record knows of."""
        remove_unfinished(self.folder)
        known, names = set(), self.folder.names()
        for name in filter(RECORDS.fullmatch, names):
            level, index = map(int, name.removesuffix(".json").split("-")[1:])
            record = self.record(level, index)
            if record and all(map(self._is_whole, *zip(*record["files"].items()))):
                known |= {name, *record["files"]}
        for name in names:
            if name not in known and (FILES.fullmatch(name) or RECORDS.fullmatch(name)):
                self.folder.remove(name)

    def _is_whole(self, name: str, crc: int) -> bool:
        try:
            with self.folder.open_file(name) as file:
                return checksum(file) == crc
        except OSError:
            return False

    def add_overviews(self) -> None:
        """Makes what is missing of the levels below, from the files of the level above."""
        for level in range(1, len(self.sizes)):
            for index in range(self.count(level)):
                if self.record(level, index) is None:
                    parent = self.new(level, index)
                    for child in range(2 * index, min(2 * index + 2, self.count(level - 1))):
                        self.add_halved(parent, self.read(level - 1, child))
                    self.write(parent)

    def add_halved(self, parent: Strip, child: Strip) -> None:
        """A strip's share in the level below."""
        halved = halve(child.pixels, child.mask, self.spec.nodata, self.spec.alphas, self._classes)
        parent.put(child.index % 2 * self.rows // 2, *halved)

    @cached_property
    def _classes(self) -> tuple[int, ...]:
        return tuple(k for k, band in enumerate(self.spec.bands) if band.classes)

    def assemble(self) -> None:
        """Puts all strips together as one Cloud Optimized GeoTIFF in the folder."""
        with writing(self.path, self.spec):
            self.add_overviews()
            levels = [self._images(level) for level in range(len(self.sizes))]
            with self.folder.replacing(ASSEMBLED) as file:
                write_cog(file, levels, self.creation.asks_for_big(self.spec.raw_bytes))

    def _images(self, level: int) -> tuple[Image, ...]:
        """A level, and its mask where it has one."""
        images, described = [], _described(self.spec, self.creation)
        meaning = (NODATA, *COLOUR_TAGS) if self.spec.colours else (NODATA,)
        shared = {number: described[number] for number in meaning if number in described}
        for kind in ("strip", "mask") if self.spec.mask else ("strip",):
            found = [self._stored(_file(level, index, kind)) for index in range(self.count(level))]
            tags = found[0][0] if kind == "mask" else found[0][0] | shared if level else described
            images.append(Image(*self.sizes[level], tags, tuple(tiles for _, tiles in found)))
        return tuple(images)

    def _stored(self, name: str) -> tuple[dict[int, Tag], CogStrip]:
        """The tags and the tiles of one file."""
        with self.folder.open_file(name) as file:
            return read_strip(file, partial(self._content, name))

    def _content(self, name: str) -> bytes:
        return self.folder.read(name, _FILE_BYTES)


def _file(level: int, index: int, kind: str = "strip") -> str:
    return f"{kind}-{level}-{index:08d}.tif"


def _record(level: int, index: int) -> str:
    return f"done-{level}-{index:08d}.json"


class StripWriter:
    """A run of strips that are made one after the other, and the overviews that they make on their own."""

    def __init__(self, strips: Strips, run: range):
        self.strips, self.run = strips, run
        self.open: dict[int, Strip] = {}

    def add(self, strip: Strip, counts: dict[str, float] | None = None) -> None:
        """Writes the next strip, and each strip of the levels below that is full with it."""
        self.strips.write(strip, counts)
        level, index = strip.level + 1, strip.index // 2
        if not self._whole(level, index):
            return
        parent = self.open.pop(level, None) or self.strips.new(level, index)
        self.strips.add_halved(parent, strip)
        if strip.index % 2 or strip.index + 1 == self.strips.count(strip.level):
            self.add(parent)
        else:
            self.open[level] = parent

    def _whole(self, level: int, index: int) -> bool:
        """Whether all that a strip of an overview is made of belongs to the run."""
        if level == len(self.strips.sizes):
            return False
        stop = min((index + 1) << level, self.strips.count())
        return self.run.start <= index << level and stop <= self.run.stop


@contextlib.contextmanager
def writing(path: Path, spec: OutputSpec) -> Iterator[None]:
    """Turns what goes wrong while an output is written into a sentence."""
    try:
        with rasterio.Env(**GDAL_SETTINGS):
            yield
    except (OSError, rasterio.errors.RasterioError, CPLE_BaseError) as error:
        free, need = free_bytes(path.parent), spec.raw_bytes
        reason = (f"the disk is full ({free / 1e6:.0f} MB free, about {2 * need / 1e6:.0f} MB needed): free some "
                  "space or choose another disk" if free < 2 * need else
                  f"{error}; check the disk, or choose another")
        raise RasterError(f"{path} cannot be written: {reason}.") from error


@contextlib.contextmanager
def _encoded(pixels: np.ndarray, tiles: dict[str, str | int]) -> Iterator[memoryview]:
    """The bytes of a TIFF of whole tiles, compressed as they will be in the output."""
    count, height, width = pixels.shape
    options = dict(driver="GTiff", dtype=pixels.dtype, count=count, height=height, width=width, **tiles)
    with quiet(), rasterio.MemoryFile() as memory:
        with memory.open(**options) as out:
            out.write(pixels)
        yield memory.getbuffer()


def _described(spec: OutputSpec, creation: CreationOptions) -> dict[int, Tag]:
    """The tags of the full resolution: GDAL writes them for one empty block."""
    with rasterio.MemoryFile(template(spec).encode(), ext=".vrt") as described, rasterio.MemoryFile() as small:
        options = creation.tiles(spec.dtype, spec.bits)
        if spec.minimum_is_white:
            options["photometric"] = "miniswhite"
        rasterio.shutil.copy(described.name, small.name, driver="GTiff", **options)
        return with_domains(read_strip(io.BytesIO(small.getbuffer()), bytes)[0], spec.domains, spec.bands)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps rasterio's warnings to itself of files that have no place on a map, or that have nodata and alpha."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        warnings.simplefilter("ignore", rasterio.errors.NodataShadowWarning)
        yield
