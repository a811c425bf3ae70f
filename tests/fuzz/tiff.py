"""Mutations of the directories of a TIFF: what a field is, how often, where, and which directory comes next."""

import struct
from random import Random

from nasty import NUMBERS

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
TAGS = (254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 338, 339, 347, 530,
        33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113, 50844)


def tiff_fields(content: bytes):
    """(byte order, is BigTIFF, [(place of the field, tag, type, count, place of its value)], [places of links])."""
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    big = struct.unpack_from(order + "H", content, 2)[0] == 43
    head, number, size, inline = ("Q", "Q", 20, 8) if big else ("H", "I", 12, 4)
    at = struct.unpack_from(order + number, content, 8 if big else 4)[0]
    fields, links, seen = [], [8 if big else 4], set()
    while at and at not in seen and len(fields) < 2000:
        if fields and at + 8 > len(content):  # GDAL reads the first directory, wherever the next is said to be
            break
        seen.add(at)
        entries = struct.unpack_from(order + head, content, at)[0]
        first = at + struct.calcsize(order + head)
        for entry in range(first, first + size * min(entries, 200), size):
            tag, kind, count = struct.unpack_from(order + "HH" + number, content, entry)
            value = entry + size - inline
            if SIZES.get(kind, 1) * count > inline:
                value = struct.unpack_from(order + number, content, value)[0]
            fields.append((entry, tag, kind, count, value))
        links.append(first + size * entries)
        at = struct.unpack_from(order + number, content, links[-1])[0]
    return order, big, fields, links


def change_tiff(random: Random, content: bytes) -> tuple[bytes, str]:
    """One field of a directory: its tag, type, count, offset or value; or the link to the next directory."""
    order, big, fields, links = tiff_fields(content)
    number, inline = ("Q", 8) if big else ("I", 4)
    changed = bytearray(content)
    entry, tag, kind, count, value = random.choice(fields)
    what = random.choice(("tag", "type", "count", "offset", "value", "value", "value", "next", "remove"))
    extreme = random.choice([n for n in NUMBERS if isinstance(n, int) and 0 <= n < 2 ** (8 * inline)])
    if what == "tag":
        struct.pack_into(order + "H", changed, entry, random.choice(TAGS))
    elif what == "type":
        struct.pack_into(order + "H", changed, entry + 2, random.choice((*SIZES, 0, 99)))
    elif what == "count":
        struct.pack_into(order + number, changed, entry + 4, random.choice((extreme, count + 1, max(0, count - 1))))
    elif what == "offset":
        place = random.choice((extreme, 0, len(content), len(content) - 1, random.randrange(len(content))))
        struct.pack_into(order + number, changed, entry + (12 if big else 8), place)
    elif what == "next":
        where = random.choice((links[0], 8, extreme, random.randrange(len(content))))
        struct.pack_into(order + number, changed, random.choice(links), where)
    elif what == "remove":
        struct.pack_into(order + "H", changed, entry, 65000)
    else:
        width = SIZES.get(kind, 1)
        place = value + width * random.randrange(max(1, min(count, 64)))
        if kind in (11, 12):
            changed[place : place + width] = struct.pack(order + "fd"[kind - 11], random.choice(
                (0.0, -0.0, float("nan"), float("inf"), 1e38, -1e-38, 1e-300 if kind == 12 else 1e-30)))
        else:
            least = random.choice((0, 1, 2, 3, 5, 7, 8, 16, 31, 32, 64, 255, extreme)) % 256**width
            changed[place : place + width] = least.to_bytes(width, "little" if order == "<" else "big")
    return bytes(changed), f"{what} of tag {tag}"
