"""Documents that anybody may have written, read with limits."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from .errors import shorten

_DEEPEST = 64
# Controls, marks that turn the reading direction, halves of surrogate pairs: they fool a terminal or break an XML.
_HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def check_visible(text: str) -> str:
    """The text; raises ValueError where it holds a character that cannot be shown."""
    if hidden := _HIDDEN.search(text):
        raise ValueError(f"it holds the character U+{ord(hidden[0]):04X}, which cannot be shown")
    return text


def read_text(path: Path, most_bytes: int) -> str:
    """The text of a plain file, or of one that a link leads to.

    Raises:
        OSError, ValueError: with what is wrong; a pipe or a device is not waited for.
    """
    if not os.path.isfile(path):
        raise ValueError("it is not a plain file" if os.path.lexists(path) else "it does not exist")
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it is longer than {most_bytes} bytes")
    return decode(content)


def decode(content: bytes) -> str:
    """UTF-8 as text, or a ValueError that shows nothing of it."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error


def parse_json(text: str) -> Any:
    """JSON as the standard has it: every key once, no NaN, nothing that `check_plain` refuses.

    Raises:
        ValueError: with what is wrong.
    """
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {_DEEPEST} levels") from error
    check_plain(content)
    return content


def check_plain(content: Any) -> None:
    """Refuses what no honest document holds: endless nesting, NaN, numbers beyond 64 bits, hidden characters.

    Raises:
        ValueError: with what was found.
    """
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"it is nested deeper than {_DEEPEST} levels")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            check_visible(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"it holds {value}, which is not a number")
        elif isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("it holds a whole number of more than 64 bits")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        twice = next(key for k, (key, _) in enumerate(pairs) if key in dict(pairs[:k]))
        raise ValueError(f"key {shorten(repr(twice))} stands there twice")
    return content
