"""What a TIFF, or the metadata of any raster, can do: lead to other files, or need much memory for one block."""

import contextlib
import html
import re
from typing import BinaryIO

from ..errors import RasterError
from .tiff import Directory, TiffFile

BANDS = 65535
_TEXT_BYTES, _BLOCK_BYTES, _DIRECTORIES = 16 << 20, 2 << 30, 4096
_METADATA = 42112


def check_metadata(text: bytes, label: str) -> None:
    """Refuses metadata that GDAL would follow: to a file for the overviews, whatever that is, or to a VRT in them."""
    if len(text) > _TEXT_BYTES:
        raise RasterError(f"{label} holds more than {_TEXT_BYTES >> 20} MB of metadata: make a copy with gdalwarp "
                          "-nomd.")
    if re.search(rb"(?i)<!(?:DOCTYPE|ENTITY)", text):
        raise RasterError(f"{label} declares a document type or entities in its metadata: make a copy with gdalwarp "
                          "-nomd.")
    if names_overviews(text):
        raise RasterError(f"{label} names a file for its overviews in its metadata, and that could be any file: make a "
                          "copy with gdalwarp -nomd.")


def names_overviews(text: bytes) -> bool:
    """Whether metadata names a file for the overviews."""
    return "overview_file" in html.unescape(text.decode("latin-1")).lower()


def check_block(label: str, height: int, width: int, pixel_bytes: int) -> None:
    """Refuses a block whose decoding alone needs too much memory."""
    if min(height, width) < 1:
        raise RasterError(f"{label} has blocks of {width} x {height} pixels: the file is damaged. Copy it again.")
    if height * width * pixel_bytes > _BLOCK_BYTES:
        raise RasterError(
            f"{label} is stored in blocks of {width} x {height} pixels, and one takes "
            f"{height * width * pixel_bytes / 1e9:.1f} GB of memory: store it in tiles with "
            "gdal_translate -co TILED=YES.")


def check_tiff(file: BinaryIO, label: str) -> None:
    """What a TIFF says of its blocks and in its metadata: in every directory, as overviews have their own."""
    with contextlib.suppress(ValueError, OSError):  # of a file that is cut off: GDAL says so
        tiff = TiffFile(file)
        for number, tags in enumerate(tiff.directories(), 1):
            if number > _DIRECTORIES:
                raise RasterError(f"{label} holds more than {_DIRECTORIES} images: take out one with gdal_translate.")
            _check_directory(tiff, tags, label)
            if _METADATA in tags:
                check_metadata(tiff.data(tags[_METADATA], _TEXT_BYTES + 1), label)


def _check_directory(tiff: TiffFile, tags: Directory, label: str) -> None:
    """The blocks of one image in a TIFF; GDAL reads strips that are not compressed in parts."""
    def value(tag: int, default: int) -> int:
        found = tiff.value(tags[tag]) if tag in tags else None
        return default if found is None else found

    width, height, bands, tile_width, tile_height = (
        value(256, 1), value(257, 1), value(277, 1), value(322, 0), value(323, 0))
    if max(width, tile_width) * max(height, tile_height) * bands * 16 <= _BLOCK_BYTES:
        return
    bits, compression, planes = value(258, 1), value(259, 1), value(284, 1)
    pixel = max(1, bits // 8) * (bands if planes == 1 else 1)
    if tile_width:
        check_block(label, tile_height, tile_width, pixel)
    elif compression != 1:
        check_block(label, min(height, value(278, height)), width, pixel)
