"""The errors a user can meet; every message states the fact, the value and the remedy."""

from collections.abc import Sequence

LONGEST_SHOWN = 120
"""Characters of a value that a sentence quotes."""
_ONE_LINE = {ord(c): " " for c in "\n\r\t"}


class Geoi2iError(Exception):
    """Root of all expected failures: bad input, option, file or environment (exit code 2).

    Its text is a sentence, or a sentence, a line for each reason, and a remedy. Only these lines turn: a name from
    elsewhere may hold anything.
    """

    exit_code = 2

    def __init__(self, message: str, reasons: Sequence[str] = (), remedy: str = ""):
        super().__init__(message, tuple(reasons), remedy)

    def __str__(self) -> str:
        message, reasons, remedy = self.args
        lines = [message, *(f"  {reason}" for reason in reasons), remedy]
        return "\n".join(one_line(line) for line in lines if line)


class RasterError(Geoi2iError):
    """A raster cannot be read, written or used."""


class ModelError(Geoi2iError):
    """A model package is damaged, unsafe, too new, or does not fit the raster."""


class RecipeError(Geoi2iError):
    """A training recipe is wrong or cannot be carried out."""


class DeviceError(Geoi2iError):
    """The compute device is missing, lost or too small."""


class Cancelled(Geoi2iError):
    """The user asked to stop."""

    exit_code = 130


def one_line(text: str) -> str:
    """The text with a space for each tab and line break, as a name from elsewhere may hold them."""
    return text.translate(_ONE_LINE)


def shorten(text: str, longest: int = LONGEST_SHOWN) -> str:
    """The text, or its beginning: a sentence is to be read."""
    return text if len(text) <= longest else f"{text[:longest]}..."
