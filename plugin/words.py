"""Messages of the command line in the words of a form: its labels instead of options, names instead of WKT."""

import re

from .text import tr

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_WKT = re.compile(r'\b[A-Z][A-Z_]*C(?:RS|S)\["([^"]*)"')


def plain(text, labels):
    """A message as somebody at a dialog can act on it.

    Args:
        text: a message of the worker.
        labels: option of the command line, as "--bands", -> label of the form.
    """
    def label(found):
        known = labels.get(found.group())
        return tr('"{}"').format(known) if known else tr("{} of the command line").format(found.group()[2:])

    return _OPTION.sub(label, without_wkt(text))


def without_wkt(text):
    """The text with every CRS that is written out replaced by its name."""
    found = _WKT.search(text)
    while found:
        end = _closing(text, text.index("[", found.start()))
        text = text[:found.start()] + found.group(1) + text[end:]
        found = _WKT.search(text)
    return text


def _closing(text, start):
    """The position behind the bracket that closes the one at `start`; the end where none does."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"[": 1, "]": -1}.get(text[place], 0)
        if not depth:
            return place + 1
    return len(text)


def length(metres):
    """A distance as people write it: 312 km, 30 m, 25 cm."""
    for limit, unit in ((1000, "km"), (1, "m"), (0.01, "cm")):
        if abs(metres) >= limit:
            return f"{_three(metres / limit)} {unit}"
    return f"{_three(metres * 1000)} mm"


def _three(number):
    """Three digits that count, without an exponent."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"


def clock(seconds):
    """How long that is: 0:42, 3:07, 2:00:15."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
