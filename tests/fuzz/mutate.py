"""Mutations by the kind of file: of its bytes, and of what they mean.

Every mutation takes a `random.Random` and the content, and returns the changed content and what was done.
"""

import sqlite3
import struct
from collections.abc import Callable
from random import Random
from xml.etree import ElementTree

from gpkg import change_gpkg
from nasty import NUMBERS, TEXTS
from tiff import change_tiff
from tree import change_events, change_header, change_json, change_literal, change_toml

Mutation = Callable[[Random, bytes], tuple[bytes, str]]
_UNPARSABLE = (ValueError, LookupError, ArithmeticError, TypeError, RecursionError, struct.error,
               ElementTree.ParseError, sqlite3.Error)


def mutated(random: Random, kind: str, content: bytes, count: int, dropped: frozenset[int] = frozenset()):
    """The content after `count` mutations, and what each did; those in `dropped` are left out."""
    said = []
    for number in range(count):
        own = Random(random.getrandbits(64))  # so that leaving one out does not change the others
        if number in dropped:
            continue
        blind = 0.25 if kind in (".tif", ".msk", ".ovr") else 0.1  # a text with a changed byte is seldom one any more
        mutation = own.choice(MUTATIONS[kind]) if own.random() > blind else change_bytes
        try:
            content, what = mutation(own, content)
        except _UNPARSABLE:  # an earlier one left nothing of its kind
            content, what = change_bytes(own, content)
        said.append(what)
    return content, said


def change_bytes(random: Random, content: bytes) -> tuple[bytes, str]:
    """One change to the bytes, whatever they mean."""
    at = random.randrange(len(content) + 1)
    stop = min(len(content), at + random.choice((1, 2, 4, 8, 64, 1024)))
    piece = content[at:stop]
    extreme = random.choice((0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)).to_bytes(4, random.choice(("little", "big")))
    ways = {
        "flip a bit": bytes([piece[0] ^ 1 << random.randrange(8)]) + piece[1:] if piece else b"",
        "zeros": b"\0" * len(piece), "ones": b"\xff" * len(piece), "noise": random.randbytes(len(piece)),
        "remove": b"", "double": piece * 2, "insert noise": random.randbytes(random.choice((1, 4, 100))) + piece,
        "insert zeros": b"\0" * 16 + piece, "an extreme": extreme + piece[4:], "repeat": piece * 50,
    }
    what = random.choice((*ways, "cut", "splice"))
    if what == "cut":
        return content[:at], f"cut at {at}"
    if what == "splice":
        other = random.randrange(len(content) + 1)
        return content[:at] + content[other : other + 256] + content[at:], f"256 bytes of {other} again at {at}"
    return content[:at] + ways[what] + content[stop:], f"{what} at {at}"


def change_xml(random: Random, content: bytes) -> tuple[bytes, str]:
    """One element: removed, doubled, moved, renamed; an attribute or a text swapped for something nasty."""
    root = ElementTree.fromstring(content.decode("utf-8"))
    parents = {child: parent for parent in root.iter() for child in parent}
    node = random.choice(list(root.iter()))
    what = random.choice(("text", "text", "attribute", "attribute", "remove", "double", "move", "rename", "many",
                          "deep", "entities"))
    if what == "attribute" and not node.attrib:
        what = "text"
    if node is root and what in ("remove", "double", "move", "many", "deep"):
        what = "text"
    nasty = random.choice((random.choice(TEXTS), str(random.choice(NUMBERS))))
    if what == "text":
        node.text = nasty
    elif what == "attribute":
        node.set(random.choice(list(node.attrib)), nasty)
    elif what == "remove":
        parents[node].remove(node)
    elif what == "double":
        parents[node].append(node)
    elif what == "move":
        parents[node].remove(node)
        root.append(node)
    elif what == "rename":
        node.tag = random.choice(list(root.iter())).tag
    elif what == "many":
        parents[node].extend([node] * 40)
    name = node.tag
    text = ElementTree.tostring(root, encoding="unicode")
    if what == "deep":
        text = text.replace("</" + root.tag, f"<{name}>" * 5000 + f"</{name}>" * 5000 + "</" + root.tag)
    if what == "entities":
        ten = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 10))
        text = f'<!DOCTYPE a [<!ENTITY e0 "ten bytes.">{ten}]>' + text.replace("</" + root.tag, "&e9;</" + root.tag)
    return text.encode("utf-8", "surrogatepass"), f"{what} of {name}"


def change_lines(random: Random, content: bytes) -> tuple[bytes, str]:
    """One line of a text: swapped, doubled, joined, lengthened."""
    lines = content.split(b"\n")
    at = random.randrange(len(lines))
    nasty = random.choice(TEXTS).encode("utf-8", "surrogatepass")
    what = random.choice(("swap", "append", "double", "many", "bytes", "remove"))
    if what == "swap":
        lines[at] = nasty
    elif what == "append":
        lines[at] += nasty
    elif what == "double":
        lines.insert(at, lines[at])
    elif what == "many":
        lines[at:at] = [lines[at]] * 50
    elif what == "bytes":
        lines[at] = random.randbytes(20)
    else:
        del lines[at]
    return b"\n".join(lines), f"{what} of line {at}"


MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    ".tif": (change_tiff,), ".msk": (change_tiff,), ".ovr": (change_tiff,),
    ".vrt": (change_xml,), ".xml": (change_xml,),
    ".json": (*[change_json] * 8, change_literal), ".toml": (*[change_toml] * 4, change_lines, change_literal),
    ".safetensors": (*[change_header] * 8, change_bytes), ".tfw": (change_lines,), ".txt": (change_lines,),
    ".h5": (change_bytes,), ".nc": (change_bytes,), ".gpkg": (change_gpkg,), ".gpkg-wal": (change_bytes,),
    ".jsonl": (*[change_events] * 4, change_lines, change_literal)}
