"""Mutations of JSON and TOML: values swapped, removed, doubled, nested, or written as no program would."""

import json
import re
import tomllib
from random import Random

from nasty import LITERALS, NUMBERS, TEXTS


def places(tree, path=()):
    """The path of every value in a tree of dictionaries and lists."""
    yield path
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield from places(value, (*path, key))


def change_tree(random: Random, tree) -> tuple[object, str]:
    """One value of a tree: swapped, removed, doubled, nested."""
    path = random.choice(list(places(tree))[1:])
    place = tree
    for key in path[:-1]:
        place = place[key]
    key, old = path[-1], place[path[-1]]
    what = random.choice(("text", "swap", "remove", "add", "nest", "many", "rename", *["like"] * 6, *["number"] * 4))
    if what == "like":
        place[key] = _like(random, old)
    elif what == "number":
        number = random.choice((*NUMBERS, float("nan"), float("inf")))
        place[key] = [number] * len(old) if isinstance(old, list) and random.random() < 0.5 else number
    elif what == "text":
        place[key] = random.choice(TEXTS)
    elif what == "swap":
        place[key] = random.choice((None, True, False, [], {}, [[]], [old], {"a": old}, [None]))
    elif what == "remove":
        del place[key]
    elif what == "add" and isinstance(place, dict):
        place[random.choice(TEXTS)] = old
    elif what == "nest":
        for _ in range(random.choice((10, 100, 1000))):
            old = [old] if random.random() < 0.5 else {"a": old}
        place[key] = old
    elif what == "rename" and isinstance(place, dict):
        place[random.choice([p[-1] for p in places(tree) if p and isinstance(p[-1], str)])] = place.pop(key)
    else:
        place[key] = [old] * random.choice((2, 100, 2000))
    return tree, f"{what} at {'.'.join(map(str, path))[:80]}"


def _like(random: Random, old):
    """Another value of the same type, as somebody could have meant it."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int | float):
        return random.choice((old + 1, old - 1, old * 2, -old, old / 2, 0, 1, 2, 3, 4, 16, 100, 1000, 65535, 0.5, 1e6))
    if isinstance(old, str):
        return random.choice((old * 2, old[:-1], old.upper(), "float32", "red", "none", "resnet", "1", old + "\n", "é"))
    if isinstance(old, list):
        return random.choice((old[:-1], old * 2, old[::-1], old[1:], [_like(random, part) for part in old]))
    return {name: _like(random, part) for name, part in old.items()} if isinstance(old, dict) else 1


def change_literal(random: Random, content: bytes) -> tuple[bytes, str]:
    """A number in the text, as no program would write it."""
    found = random.choice(list(re.finditer(rb"-?\d+(\.\d+)?", content)))
    return content[: found.start()] + random.choice(LITERALS).encode() + content[found.end() :], \
        f"literal at {found.start()}"


def change_json(random: Random, content: bytes) -> tuple[bytes, str]:
    tree, what = change_tree(random, json.loads(content))
    text = json.dumps(tree)
    if random.random() < 0.05:
        text, what = text[:1] + text[1:-1] + "," + text[1:], what + ", every key twice"
    return text.encode(), what


def change_toml(random: Random, content: bytes) -> tuple[bytes, str]:
    tree, what = change_tree(random, tomllib.loads(content.decode()))
    if random.random() < 0.1:
        tree, what = {".".join(["a"] * 200): 1, **tree}, what + ", a long key"
    return "".join(f"{_bare(key)} = {_toml(value)}\n" for key, value in tree.items()).encode(), what


def _bare(key: str) -> str:
    """A key without quotes where it can be: one with dots is then a path."""
    return key if re.fullmatch(r"[A-Za-z0-9_.-]+", key) else json.dumps(key)


def _toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return "nan" if value != value else "inf" if value == float("inf") else '""' if value is None else json.dumps(value)


def change_header(random: Random, content: bytes) -> tuple[bytes, str]:
    """The JSON before the tensors of a safetensors file; its length is kept true most of the time."""
    length = int.from_bytes(content[:8], "little")
    header, what = change_json(random, content[8 : 8 + length])
    told = len(header) if random.random() < 0.9 else random.choice((0, 2**31, 2**63, 2**64 - 1))
    return told.to_bytes(8, "little") + header + content[8 + length :], f"header: {what}"


def change_events(random: Random, content: bytes) -> tuple[bytes, str]:
    """One event of a stream of JSON lines, or its line."""
    lines = content.split(b"\n")
    at = random.randrange(len(lines))
    lines[at], what = change_json(random, lines[at])
    return b"\n".join(lines), f"line {at}: {what}"
