"""How far one run walks through the code: `walk.py [COMMIT]` traces `geoi2i run` on the sample scene.

Prints how many files and functions of geoi2i it enters, how often a call leads from one file to another, how often a
raster is inspected and opened, and the longest files and classes of core. COMMIT is the working tree where left out.
"""

import argparse
import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRACE = """
import json, sys, threading
tree, said = sys.argv[1], sys.argv[2]
functions, crossings, opened, inspected = set(), 0, [], []
def profile(frame, event, argument):
    global crossings
    code = frame.f_code
    if event != "call" or not code.co_filename.startswith(tree):
        return
    functions.add((code.co_filename, code.co_qualname))
    caller = frame.f_back
    while caller and not caller.f_code.co_filename.startswith(tree):
        caller = caller.f_back
    crossings += bool(caller) and caller.f_code.co_filename != code.co_filename
    if code.co_name == "open_raster":
        opened.append(1)
    if code.co_name in ("look_at", "inspect"):
        inspected.append(1)
threading.setprofile(profile)
sys.setprofile(profile)
from geoi2i.cli.main import main
try:
    main(sys.argv[3:])
finally:
    sys.setprofile(None)
    json.dump({"files": len({file for file, _ in functions}), "functions": len(functions), "crossings": crossings,
               "inspections": len(inspected), "openings": len(opened)}, open(said, "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit", nargs="?", help="by default the working tree")
    commit = parser.parse_args().commit
    with tempfile.TemporaryDirectory(prefix="geoi2i-walk-") as temporary:
        folder = Path(temporary)
        tree = ROOT
        if commit:
            tree = folder / "tree"
            subprocess.run(["git", "worktree", "add", "--detach", "-q", tree, commit], cwd=ROOT, check=True)
        (folder / "path").mkdir()
        (folder / "path" / "geoi2i").symlink_to(tree)
        sample = next((ROOT / "resources/samples").glob("*.tif"))
        command = ["run", "-i", str(sample), "-m", "jupiter-rgb", "-o", str(folder / "o.tif"), "--device", "cpu"]
        subprocess.run([sys.executable, "-c", TRACE, str(folder / "path"), str(folder / "said"), *command], check=True,
                       env=os.environ | {"PYTHONPATH": str(folder / "path")}, stderr=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, cwd=folder)
        print((folder / "said").read_text())
        sizes(tree)
        if commit:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def sizes(tree: Path) -> None:
    """Prints the longest files and classes of core."""
    files = {path: path.read_text() for path in (tree / "core").rglob("*.py")}
    lines = sorted(((text.count("\n"), path.relative_to(tree)) for path, text in files.items()), reverse=True)
    classes = sorted(((node.end_lineno - node.lineno + 1, f"{path.relative_to(tree)}:{node.name}")
                      for path, text in files.items() for node in ast.walk(ast.parse(text))
                      if isinstance(node, ast.ClassDef)), reverse=True)
    print("longest files  ", ", ".join(f"{path} {count}" for count, path in lines[:5]))
    print("longest classes", ", ".join(f"{name} {count}" for count, name in classes[:5]))


if __name__ == "__main__":
    main()
