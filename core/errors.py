"""The errors a user can meet; every message states the fact, the value and the remedy."""

import errno
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


class EmptyRasterError(RasterError):
    """A raster, or what would be made of it, has no valid pixel."""


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


_SYSTEM = {
    errno.EMFILE: "this program has too many files open: raise the limit (ulimit -n) or take fewer --workers",
    errno.ENFILE: "this machine has too many files open: close programs",
    errno.ENOMEM: "the memory is used up: close programs, or take a smaller --tile or fewer --workers",
    errno.ENAMETOOLONG: "its name is too long for this disk: choose a shorter one",
    errno.ENOSPC: "the disk is full: make room", errno.EDQUOT: "your share of the disk is full: make room",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.EIO: "the disk or the network drive failed: copy the file from its origin",
    errno.ENOTDIR: "a part of its path is a file: check the path",
    errno.ELOOP: "its links lead in a circle: name the file itself",
    errno.ENOENT: "it does not exist: check the path",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "it is not permitted: check its permissions")}


def sentence(error: BaseException) -> str:
    """What an expected failure says: one of ours, or of the system."""
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'} cannot be used, as {why_refused(error)}."
    if isinstance(error, MemoryError):
        return "The memory does not suffice: close other programs, or take a smaller --tile or fewer --workers."
    return str(error)


def of_environment(error: BaseException) -> bool:
    """Whether an error of the system says that this machine, and not the program, is at fault."""
    known = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EROFS,
             errno.EIO)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in known)


def why_refused(error: OSError) -> str:
    """What the system said, as the end of a sentence: the reason and what to do."""
    return _SYSTEM.get(error.errno or 0, f"{error.strerror or error}: check the path and the disk")
