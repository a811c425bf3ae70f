"""Starts the command line from the plugin's own tree, in an interpreter that has what it needs.

Every old Python must be able to read this file, to say that it is too old.
"""

import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NEEDED = (3, 11)


def fail(text):
    print(json.dumps({"event": "failed", "text": text, "exit_code": 2}))
    sys.exit(2)


def load():
    """This very tree as the package geoi2i, whatever else bears that name."""
    import importlib.util

    place = os.path.join(ROOT, "__init__.py")
    spec = importlib.util.spec_from_file_location("geoi2i", place, submodule_search_locations=[ROOT])
    package = importlib.util.module_from_spec(spec)
    sys.modules["geoi2i"] = package
    spec.loader.exec_module(package)


if sys.version_info < NEEDED:
    fail("%s is Python %d.%d, and GeoI2I needs %d.%d or newer: choose another interpreter." % (
        (sys.executable,) + tuple(sys.version_info[:2]) + NEEDED))
load()  # in child processes too, which import this file again

if __name__ == "__main__":
    try:
        from geoi2i.cli.main import main
    except ModuleNotFoundError as error:
        fail("%s lacks the package %s: run Check installation." % (sys.executable, error.name))
    main()
