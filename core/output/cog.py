"""A Cloud Optimized GeoTIFF put together from tiles that are already compressed: no pixel is coded twice.

GDAL writes the tiles, in strips, and a small template that holds the tags; their bytes are copied into one
file in the layout that GDAL calls COG: all directories first, then the tiles of the smallest overview up to
those of the full resolution, each with its size before it and its last bytes again behind it
(TIFF 6.0; BigTIFF; gdal.org/drivers/raster/cog.html).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from ..raster.tiff import Tag, TiffFile

_SUBFILE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _TILE_OFFSETS, _TILE_SIZES = 254, 256, 257, 262, 324, 325
NODATA = 42113
"""The tag of GDAL's nodata value."""
COLOUR_TAGS = _PHOTOMETRIC, 320, 338
"""The tags that say how numbers are shown: the photometric interpretation, the colour table, what extra samples are."""
_OVERVIEW, _MASK = 1, 4  # bits of the subfile type; the photometric interpretation of a mask is 4 too
_SHORT, _LONG, _LONG8 = 3, 4, 16
_CODES = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_FIRST_GEO_TAG = 33000
_CLASSIC_BYTES = 1 << 32
_GHOST = ("LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
          "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n ")


@dataclass(frozen=True)
class Strip:
    """Tiles in a file, row by row."""

    content: Callable[[], bytes]
    """Reads the file."""
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Image:
    """The full resolution, an overview, or the mask of either."""

    height: int
    width: int
    tags: dict[int, Tag]
    """How the tiles are coded and what they mean."""
    strips: tuple[Strip, ...]

    @property
    def sizes(self) -> list[int]:
        """Bytes of every tile, row by row."""
        return [size for strip in self.strips for size in strip.sizes]


def read_strip(file: BinaryIO, content: Callable[[], bytes]) -> tuple[dict[int, Tag], Strip]:
    """The first directory of a tiled little-endian TIFF, and its tiles.

    Args:
        content: reads the whole file, when its tiles are copied.

    Raises:
        OSError: where the file is none, or was cut off, as on a disk that is full.
    """
    try:
        tiff = TiffFile(file)
        if tiff.order != "little":
            raise ValueError("another byte order")
        tags = tiff.tags(tiff.first)
        return tags, Strip(content, _numbers(tags.pop(_TILE_OFFSETS)), _numbers(tags.pop(_TILE_SIZES)))
    except (struct.error, KeyError, ValueError) as error:
        raise OSError("a strip was cut off") from error


def write_cog(out: BinaryIO, levels: list[tuple[Image, ...]], big: bool = False) -> None:
    """Writes the levels, full resolution first; each is an image or an image and its mask.

    Args:
        big: whether it is a BigTIFF also where a classic TIFF has room.
    """
    images = [image for level in levels for image in level]
    tiles, tile_bytes = sum(len(image.sizes) for image in images), sum(sum(image.sizes) for image in images)
    big = big or tile_bytes + 32 * tiles + (len(images) << 16) >= _CLASSIC_BYTES
    nowhere = [[(0,) * len(image.sizes) for image in level] for level in levels]
    position = len(_head(levels, nowhere, big))
    places: list[list[list[int]]] = [[[] for _ in level] for level in levels]
    for level, offsets in zip(reversed(levels), reversed(places)):
        for sizes in zip(*(image.sizes for image in level)):
            for image_offsets, size in zip(offsets, sizes):
                image_offsets.append(position + 4)
                position += 4 + size + 4
    out.write(_head(levels, places, big))
    for level in reversed(levels):
        for strips in zip(*(image.strips for image in level)):
            _copy_tiles(strips, out)


def _copy_tiles(strips: tuple[Strip, ...], out: BinaryIO) -> None:
    """Tile after tile, that of the mask behind that of the image."""
    files = [memoryview(strip.content()) for strip in strips]
    for places in zip(*(zip(strip.offsets, strip.sizes) for strip in strips)):
        for file, (offset, size) in zip(files, places):
            out.write(struct.pack("<I", size))
            out.write(file[offset : offset + size])
            out.write(file[offset + size - 4 : offset + size])


def _head(levels: list[tuple[Image, ...]], places: list[list], big: bool) -> bytes:
    """Everything before the first tile; its size does not depend on the places."""
    ghost = _GHOST + ("MASK_INTERLEAVED_WITH_IMAGERY=YES\n" if len(levels[0]) > 1 else "")
    structure = f"GDAL_STRUCTURAL_METADATA_SIZE={len(ghost):06d} bytes\n{ghost}".encode()
    start = 16 if big else 8
    head = bytearray(_padded(bytes(start) + structure))
    head[:start] = struct.pack("<2sHHHQ", b"II", 43, 8, 0, len(head)) if big else struct.pack(
        "<2sHI", b"II", 42, len(head))
    images = [(image, offsets, _OVERVIEW * (k > 0) | _MASK * m) for k, level in enumerate(levels)
              for m, (image, offsets) in enumerate(zip(level, places[k]))]
    for image, offsets, kind in images:
        last = image is images[-1][0]
        head += _directory(_tags(image, offsets, kind, big), len(head), last, big)
    return bytes(head)


def _tags(image: Image, offsets: tuple[int, ...], kind: int, big: bool) -> dict[int, Tag]:
    """All tags of an image's directory."""
    tags = {number: tag for number, tag in image.tags.items()
            if not kind or number < _FIRST_GEO_TAG or number == NODATA}
    tags |= {_WIDTH: _tag(_LONG, image.width), _HEIGHT: _tag(_LONG, image.height),
             _TILE_OFFSETS: _tag(_LONG8 if big else _LONG, *offsets), _TILE_SIZES: _tag(_LONG, *image.sizes)}
    if kind:
        tags[_SUBFILE] = _tag(_LONG, kind)
    if kind & _MASK:
        tags[_PHOTOMETRIC] = _tag(_SHORT, _MASK)
    return dict(sorted(tags.items()))


def _directory(tags: dict[int, Tag], position: int, last: bool, big: bool) -> bytes:
    """A directory that stands at `position`, and behind it the values that do not fit into it."""
    word, count, room = ("<Q", "<Q", 8) if big else ("<I", "<H", 4)
    size = struct.calcsize(count) + len(tags) * (12 + 2 * (room - 4)) + room
    entries, values = b"", b""
    for number, tag in tags.items():
        field = tag.data.ljust(room, b"\0")
        if len(field) > room:
            field = struct.pack(word, _aligned(position + size) + len(values))
            values += _padded(tag.data)
        entries += struct.pack("<HH", number, tag.kind) + struct.pack(word, tag.count) + field
    stop = _aligned(position + size) + len(values)
    whole = struct.pack(count, len(tags)) + entries + struct.pack(word, 0 if last else stop)
    return _padded(whole) + values


def _tag(kind: int, *numbers: int) -> Tag:
    return Tag(kind, len(numbers), struct.pack(f"<{len(numbers)}{_CODES[kind]}", *numbers))


def _numbers(tag: Tag) -> tuple[int, ...]:
    return struct.unpack(f"<{tag.count}{_CODES[tag.kind]}", tag.data)


def _aligned(position: int) -> int:
    return -(-position // 8) * 8


def _padded(data: bytes) -> bytes:
    return data.ljust(_aligned(len(data)), b"\0")
