"""Refuses HDF5 files that can name other files: what could is looked for in all bytes, whether it is in use or not."""

import mmap
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from ..errors import RasterError

_MATCHES, _STEPS, _BLOCK = 1 << 20, 4 << 20, 1 << 20
# Where the sizes of numbers, the base address and the end of the file stand in each version of the superblock.
_SUPERBLOCK = {0: (13, 24, 40), 1: (13, 28, 44), 2: (9, 12, 28), 3: (9, 12, 28)}
_UNDEFINED = b"\xff" * 8
# Local and global heaps, images of the cache, new object headers, fractal heaps and their direct blocks, trees that
# find their huge objects, and the two drivers that keep one file in several.
_SIGNATURES = re.compile(rb"HEAP|GCOL|MDCI|OHDR\x02|FRHP\0|FHDB\0|BTHD\0\x01|BT(?:LF|IN)\0\x01|NCSA(?:fami|mult)")
_LETTERS = np.frombuffer(b"HEAPGCOLMDCIOHDRFRHPFHDBBTHDBTLFBTINNCSA", "<u4")
# How a link of type 64 starts: version 1, flags with bit 3 set and bits 5 to 7 clear, the type.
_LINK = re.compile(rb"\x01[\x08-\x0f\x18-\x1f]\x40")
# The same in an old object header: after message type 6, a size, flags and three bytes of anything.
_OLD_LINK = re.compile(rb"(?s)\x06\0.{6}(?=\x01[\x08-\x0f\x18-\x1f]\x40)")
_FILE_NAME = re.compile(rb"\0[^\0-\x1f\x7f]")  # after the version, the only one
_LINK_MESSAGE, _CONTINUATION = 6, 16


def check_hdf5(file: BinaryIO, header: bytes, label: str) -> None:
    """Refuses an HDF5 or netCDF-4 file in which anything could lead the library to another file.

    Args:
        file: open for reading; it starts with the signature of HDF5.
        header: its first bytes, 100 or more where it has as many.
        label: what the file is to the user.

    Raises:
        RasterError: for external raw data, virtual datasets, external links, files in several parts, what could hide
            one of these, and a file that is cut off, for which GDAL would try its neighbours.
    """
    refusal = RasterError(f"{label} keeps data in other files, or is HDF5 of an unusual kind: if you trust it, convert "
                          "it with gdal_translate.")
    sizes, base, end = _SUPERBLOCK.get(header[8] if len(header) > 60 else -1, (0, 0, 0))
    # Addresses of eight bytes that count from the start of the file, and no driver, as libraries write them.
    if (not sizes or header[sizes : sizes + 2] != b"\x08\x08" or header[base : base + 8] != bytes(8)
            or (header[8] < 2 and header[end + 8 : end + 16] != _UNDEFINED)):
        raise refusal
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if _number(header, end, 8) > len(data):
            raise RasterError(f"{label} is cut off: it has {len(data)} of {_number(header, end, 8)} bytes. Copy it "
                              "again.")
        if _names_files(data):
            raise refusal


def _names_files(data: mmap.mmap) -> bool:
    found = defaultdict(list)
    for count, match in enumerate(filter(None, (_SIGNATURES.match(data, at) for at in _capitals(data)))):
        found[match[0][:4]].append(match.start())
        if count > _MATCHES:
            return True
    longest = max((_number(data, tree + 6, 4) for tree in found[b"BTHD"]), default=0)
    nodes = [(start + 6, start + longest) for start in found[b"BTLF"] + found[b"BTIN"]]
    old = (match.end() for match in _OLD_LINK.finditer(data))
    return bool(found[b"NCSA"]) or _is_pointed_at(data, found) or any(
        count > _STEPS or _is_external(data, start)
        for links in (old, _new_links(data, found[b"OHDR"]), _links(data, _direct_blocks(data, found)),
                      _huge_objects(data, nodes))
        for count, start in enumerate(links))


def _capitals(data: mmap.mmap) -> Iterator[int]:
    """Where the four letters that signatures start with stand: ten times as fast as the expression alone."""
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK + 3]
        for shift in range(min(4, len(block) - 3)):
            words = np.frombuffer(block, "<u4", (len(block) - shift) // 4, shift)
            maybe = np.flatnonzero(words & 0xE0E0E0E0 == 0x40404040)  # bytes of 64 to 95
            if maybe.size:
                yield from (start + shift + 4 * maybe[np.isin(words[maybe], _LETTERS)]).tolist()


def _number(data: bytes | mmap.mmap, start: int, size: int) -> int:
    return int.from_bytes(data[start : start + size], "little")


def _is_external(data: mmap.mmap, start: int | None) -> bool:
    """Whether a link message that names a file starts here; old libraries do not look where it has to end."""
    if start is None or not _LINK.match(data, start):
        return False
    flags = data[start + 1]
    width = 1 << (flags & 3)
    at = start + 3 + (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    name = _number(data, at, width)
    at += width + name
    size = _number(data, at, 2)
    return name > 0 and size > 2 and bool(_FILE_NAME.match(data[at + 2 : at + 4]))


def _is_pointed_at(data: mmap.mmap, found: dict[bytes, list[int]]) -> bool:
    """Whether the file holds the address of anything that must not be in use, or of a heap where file names are.

    External raw data: a message of version 1, three bytes of anything, the numbers of names that have room and that
    are there, and the address of a local heap. Virtual datasets: a layout message of version 3 or more, class 3, and
    the address of a global heap. An image of the cache would be read in place of what stands elsewhere in the file.
    """
    odd = [start for start in found[b"FRHP"] if _is_odd(data, start)]
    kinds = sorted([(start, 0) for start in found[b"HEAP"]] + [(start, 1) for start in found[b"GCOL"]]
                   + [(start, 2) for start in found[b"MDCI"] + odd])
    if not kinds:
        return False
    targets, kind = np.array(kinds, np.uint64).T.copy()
    low, span = targets[0], targets[-1] - targets[0]
    for start in range(8, len(data), _BLOCK):
        block = data[start - 8 : start + _BLOCK + 7]
        raw = np.frombuffer(block, np.uint8)
        for shift in range(8, min(16, len(block) - 7)):
            numbers = np.frombuffer(block, "<u8", (len(block) - shift) // 8, shift)
            near = np.flatnonzero(numbers - low <= span)
            which = np.searchsorted(targets, numbers[near])
            hit = targets[which] == numbers[near]
            at, what = near[hit] * 8 + shift, kind[which[hit]]
            names = (what == 0) & (raw[at - 8] == 1) & (raw[at - 2] | raw[at - 1] > 0)
            layout = (what == 1) & (raw[at - 1] == 3) & (raw[at - 2] >= 3) & (raw[at - 2] < 9)
            if (names | layout | (what == 2)).any():
                return True
    return False


def _is_odd(data: mmap.mmap, heap: int) -> bool:
    """Whether a fractal heap is one that libraries do not write: what it holds could be anywhere, or compressed.

    Its identifiers have 7 or 8 bytes, it has no filters, the sizes of its blocks are powers of two, and what finds its
    huge objects is a tree for that.
    """
    sizes = [_number(data, heap + at, 8) for at in (112, 120)]
    tree = _number(data, heap + 22, 8)
    return (_number(data, heap + 5, 2) not in (7, 8) or _number(data, heap + 7, 2) > 0
            or any(size.bit_count() != 1 or size >> 32 for size in sizes)
            or not (data[heap + 22 : heap + 30] == _UNDEFINED or data[tree : tree + 6] == b"BTHD\0\x01"))


def _new_links(data: mmap.mmap, headers: Iterable[int]) -> Iterator[int | None]:
    """The messages of object headers of version 2, counted by None where they are no links."""
    for here in headers:
        flags = data[here + 5] if here + 5 < len(data) else 0
        start = here + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width, head = 1 << (flags & 3), 6 if flags & 4 else 4
        chunks = [(start + width, start + width + _number(data, start, width))]
        known = set()
        while chunks:
            at, end = chunk = chunks.pop()
            known.add(chunk)
            while at + head <= min(end, len(data)):
                kind, size = data[at], _number(data, at + 1, 2)
                at += head
                yield at if kind == _LINK_MESSAGE else None
                if kind == _CONTINUATION:
                    more = _number(data, at, 8)
                    chunk = more + 4, more + _number(data, at + 8, 8) - 4
                    if data[more : more + 4] == b"OCHK" and chunk not in known:
                        chunks.append(chunk)
                at += size


def _links(data: mmap.mmap, areas: Iterable[tuple[int, int]]) -> Iterator[int]:
    for start, end in _merged(areas):
        for match in _LINK.finditer(data, start, end):
            yield match.start()


def _direct_blocks(data: mmap.mmap, found: dict[bytes, list[int]]) -> Iterator[tuple[int, int]]:
    """Where direct blocks of fractal heaps can be: a block does not say how long it is, but its heap has a limit.

    Objects of up to 7 bytes are kept in their identifiers, but an external link needs 10.
    """
    for here in found[b"FHDB"]:
        heap = _number(data, here + 5, 8)
        if data[heap : heap + 5] == b"FRHP\0":
            first, largest = _number(data, heap + 112, 8), _number(data, heap + 120, 8)
            rows = min(_number(data, heap + 140, 2), 64)
            # Blocks of the first two rows are of the first size, and of twice the size in each row after them.
            yield here, min(here + max(first, min(first << max(0, rows - 2), largest)), len(data))


def _huge_objects(data: mmap.mmap, nodes: Iterable[tuple[int, int]]) -> Iterator[int | None]:
    """Where the objects that have no room in a fractal heap can be: all that could be an address in nodes of a tree."""
    for start, end in _merged(nodes):
        for at in range(start, min(end, len(data) - 7)):
            address = _number(data, at, 8)
            yield address if address < len(data) else None


def _merged(areas: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same areas, those that overlap as one."""
    last = (0, 0)
    for start, end in sorted(areas):
        if start > last[1]:
            yield last
            last = (start, end)
        last = (last[0], max(last[1], end))
    yield last
