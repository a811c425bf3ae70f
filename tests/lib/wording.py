"""What an error message must be: short, with at most one path, in the field's words, and with a remedy."""

import re

LONGEST_LINE = 300
OLD_WORDS = ("coordinate system", "legs", "stretches", "taken up", "go on", "goes on", "codes",
             "level path", "taps", "nce_places", "verdict", "unlike", "same ground", "brought to", "in a row",
             "--extent", "--consistent", "--decibels", "--onto", "--no-widen", "patient", "hollow", "look at",
             "premises", "none for", "makes no", "there is no", "there are no")
"""Words that only we would know, and those that were replaced."""
NO_THING = re.compile(r"\b(?:is|are|was|were|be|makes?) no (?!longer|more than|wider|larger)[a-z]+")
"""The form "X is no Y"."""
VERBS = """
add allow ask assign change check choose clear convert copy correct create crop cut delete download export free get give
install leave lower make move name orthorectify pick raise read rectify remove rename repeat report resume run save
see select send set start store take train try update use wait write
""".split()
"""What a remedy can begin with; an option, a command or "did you mean" are remedies too."""
REMEDY = re.compile(rf"(?:^|[:;.,?] |\bor |\band |^ *)(?:{'|'.join(VERBS)})\b|--[a-z]|\b(?:geoi2i|gdal\w+|pip) [a-z]|"
                    r"did you mean|valid keys are|must be|should|at (?:least|most)", re.I | re.M)
PATH = re.compile(r"(?<![\w/:<.])(?:/[^\s/:;,'\"()]+){2,}")
LONG_NAME = re.compile(r"\S{60,}")
LEADS = re.compile(r" names\b| has its data in | would be read with | not written yet, in |^Strip ")
"""Where one file leads to another, both are named."""
ASIDE = re.compile(r"\w+://\S+|(?<!\w)'[^']*'|(?:for example|such as|like) [^:;]*")
"""An address, a value as it was given, an example: what is in it is not a path that the message is about."""


def complaints(text: str) -> list[str]:
    """What is wrong with an error message, a phrase each; empty where nothing is."""
    found = []
    lines = text.splitlines()
    for line in lines:
        if len(LONG_NAME.sub("N", PATH.sub("P", line))) > LONGEST_LINE:
            found.append(f"a line of {len(line)} characters")
        paths = sorted(set(PATH.findall(ASIDE.sub("", line))))
        if len(paths) > (2 if LEADS.search(line) else 1):
            found.append(f"more than one path: {', '.join(paths)}")
    plain = PATH.sub("P", text)
    found += [f'"{word}"' for word in OLD_WORDS if re.search(rf"(?<![\w-]){re.escape(word)}\b", plain, re.I)]
    found += ['"spread"'] * bool(re.search(r"(?<!point )spread", plain))
    found += [f'"{match[0]}"' for match in NO_THING.finditer(plain)]
    if lines[1:] and lines[-1].startswith(" "):
        found.append("reasons without a remedy after them")
    if not REMEDY.search(text):
        found.append("no remedy")
    return found
