"""One sentence for what is wrong in a document that anybody may have written, held against a model of it."""

import difflib
import types
import typing
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from .documents import check_visible
from .errors import LONGEST_SHOWN, shorten

Text = Annotated[str, Field(max_length=4000), AfterValidator(check_visible)]
"""A name, a unit, a title; what is longer belongs into a document of its own."""


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first finding as a sentence: key, what is wrong, and what would be right."""
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    key = shorten(repr(".".join(names) or "the whole"))
    if first["type"] == "extra_forbidden":
        known = valid_keys(model, names[:-1])
        hint = nearest(names[-1], known) or f"valid keys are {shorten(', '.join(known) or 'none')}."
        return f"key {key} is unknown; {hint}"
    if first["type"] == "missing":
        return f"key {key} is missing; add it."
    value = first.get("input")
    shown = "" if isinstance(value, dict | list | BaseModel) else f" (it is {shorten(repr(value))})"
    message = shorten(first["msg"].removeprefix("Value error, "), 3 * LONGEST_SHOWN)
    return f"key {key} is wrong{shown}: {message[:1].lower() + message[1:]}; correct it."


def nearest(name: str, known: Iterable[str]) -> str:
    """A question for the name that was probably meant; nothing where none is near."""
    near = difflib.get_close_matches(name[:LONGEST_SHOWN], list(known), 1)
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
