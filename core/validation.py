"""Documents that anybody may have written, read with limits, and one sentence for what is wrong in them."""

import difflib
import json
import math
import os
import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError

_DEEPEST, _LONGEST_SHOWN = 64, 120
# Controls, marks that turn the reading direction, halves of surrogate pairs: they fool a terminal or break an XML.
_HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def _visible(text: str) -> str:
    if hidden := _HIDDEN.search(text):
        raise ValueError(f"it holds the character U+{ord(hidden[0]):04X}, which cannot be shown")
    return text


Text = Annotated[str, Field(max_length=4000), AfterValidator(_visible)]
"""A name, a unit, a title; what is longer belongs into a document of its own."""


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
            _visible(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"it holds {value}, which is no number")
        elif isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("it holds a whole number of more than 64 bits")


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first finding as a sentence: key, what is wrong, and what would be right."""
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    key = shorten(repr(".".join(names) or "the whole"))
    if first["type"] == "extra_forbidden":
        known = valid_keys(model, names[:-1])
        hint = nearest(names[-1], known) or f"valid keys are {', '.join(known) or 'none'}."
        return f"key {key} is unknown; {hint}"
    if first["type"] == "missing":
        return f"key {key} is missing; add it."
    value = first.get("input")
    shown = "" if isinstance(value, dict | list | BaseModel) else f" (it is {shorten(repr(value))})"
    message = shorten(first["msg"].removeprefix("Value error, "), 3 * _LONGEST_SHOWN)
    return f"key {key} is wrong{shown}: {message[:1].lower() + message[1:]}."


def shorten(text: str, longest: int = _LONGEST_SHOWN) -> str:
    """The text, or its beginning: a sentence is to be read."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """A question for the name that was probably meant; nothing where none is near."""
    near = difflib.get_close_matches(name[:_LONGEST_SHOWN], list(known), 1)
    return f"did you mean {near[0]!r}?" if near else ""


def valid_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of the model at a path of keys; list indices and union tags are stepped over."""
    candidates = [model]
    for name in path:
        inner = [m for c in candidates if name in c.model_fields
                 for m in _models(c.model_fields[name].annotation)]
        tagged = [c for c in candidates if any(f.default == name for f in c.model_fields.values())]
        candidates = inner or tagged or candidates
    return sorted({name for c in candidates for name in c.model_fields})


def _models(annotation) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Annotated, typing.Union, types.UnionType, tuple, list):
        return [m for part in typing.get_args(annotation) for m in _models(part)]
    return []


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        twice = next(key for k, (key, _) in enumerate(pairs) if key in dict(pairs[:k]))
        raise ValueError(f"key {shorten(repr(twice))} stands there twice")
    return content
