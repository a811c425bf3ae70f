"""What the plugin's forms call their parameters in programs, which nobody at a dialog sees."""

import ast
import re
from pathlib import Path

PLUGIN = Path(__file__).resolve().parent.parent.parent / "plugin"
WORDS = {"JSON", "CSV"}
"""Names that are also words."""
QGIS_ITSELF = re.compile(r"^.*Could not load source layer for .*$", re.M)
"""What QGIS says of a parameter, which names it so."""


def calls(name):
    """(file, call) for all calls of the plugin to what is called, or begins with, `name`."""
    for file in sorted(PLUGIN.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith(name):
                yield file, node


def parameter_names():
    """INPUT, TARGET_CRS, PIXEL_SIZE, ..."""
    return {call.args[0].value for _, call in calls("QgsProcessingParameter")
            if call.args and isinstance(call.args[0], ast.Constant)} - WORDS


def named_in(text):
    """The parameters that a text calls by their names."""
    return sorted(parameter_names() & set(re.findall(r"[A-Z][A-Z_]+", QGIS_ITSELF.sub("", text))))
