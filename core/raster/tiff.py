"""What the images of a TIFF say of themselves, read without GDAL (TIFF 6.0; BigTIFF)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

# Bytes of a value, by field type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SUB_DIRECTORIES, _MOST_ENTRIES, _MOST_SUB_DIRECTORIES = 330, 65535, 4096


@dataclass(frozen=True)
class Entry:
    """A tag of a directory: its field type, how many values, and their bytes or where these stand."""

    kind: int
    count: int
    field: bytes


Directory = dict[int, Entry]


@dataclass(frozen=True)
class Tag:
    """A tag with its values: their field type, how many, and their bytes in the file's order."""

    kind: int
    count: int
    data: bytes


class TiffFile:
    """The directories of an open TIFF. Of what is cut off, and so missing, what is left is given."""

    def __init__(self, file: BinaryIO):
        """Raises ValueError where the file is not a TIFF."""
        self.file = file
        file.seek(0)
        head = file.read(16)
        self.order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        version = self.number(head[2:4]) if head[:2] in (b"II", b"MM") else 0
        if version not in (42, 43):
            raise ValueError("not a TIFF")
        self.big = version == 43
        self._word, self._count = (8, 8) if self.big else (4, 2)
        self._entry = struct.Struct(("<" if self.order == "little" else ">") + ("HHQ8s" if self.big else "HHI4s"))
        self.first = self.number(head[8:16] if self.big else head[4:8])

    def number(self, data: bytes) -> int:
        """An unsigned number in the file's byte order."""
        return int.from_bytes(data, self.order)

    def directory(self, position: int) -> tuple[Directory, int]:
        """The tags of an image, the first of each number, and where the next directory stands; 0: nowhere."""
        count = min(self.number(self._read(position, self._count)), _MOST_ENTRIES)
        size = count * self._entry.size
        data = self._read(position + self._count, size + self._word)
        whole = min(size, len(data)) // self._entry.size * self._entry.size
        tags: Directory = {}
        for number, *fields in self._entry.iter_unpack(data[:whole]):
            tags.setdefault(number, Entry(*fields))
        return tags, self.number(data[size:])

    def directories(self) -> Iterator[Directory]:
        """Those of all images, each once, sub-directories included."""
        known, waiting = {0}, [self.first]
        while waiting:
            if (here := waiting.pop()) in known:
                continue
            known.add(here)
            tags, following = self.directory(here)
            waiting.append(following)
            inner = tags.get(_SUB_DIRECTORIES, Entry(0, 0, b""))
            waiting += [self.value(inner, k) or 0 for k in range(min(inner.count, _MOST_SUB_DIRECTORIES))]
            yield tags

    def value(self, entry: Entry, index: int = 0) -> int | None:
        """One value of a tag as an unsigned number; None where it has not so many, or not of numbers."""
        size = _SIZES.get(entry.kind, 0)
        if index >= entry.count or not size:
            return None
        inside = size * entry.count <= self._word
        return self.number(entry.field[size * index : size * (index + 1)] if inside
                           else self._read(self.number(entry.field) + size * index, size))

    def data(self, entry: Entry, most_bytes: int | None = None) -> bytes:
        """All values of a tag as they stand, or as many bytes of them as wanted."""
        size = _SIZES.get(entry.kind, 1) * entry.count
        if size <= self._word:
            return entry.field[:size]
        return self._read(self.number(entry.field), size if most_bytes is None else min(size, most_bytes))

    def tags(self, position: int) -> dict[int, Tag]:
        """The tags of an image with all their values."""
        return {number: Tag(entry.kind, entry.count, self.data(entry))
                for number, entry in self.directory(position)[0].items()}

    def _read(self, position: int, size: int) -> bytes:
        if position >> 63:  # beyond any file
            return b""
        self.file.seek(position)
        return self.file.read(size)
