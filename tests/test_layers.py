"""Laws of the house: imports are relative, run one way, and cost nothing until something is used."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Inside core a file imports only what stands above it.
CORE = ("errors", "folders", "files", "memory", "grid", "tiles", "bands", "overviews", "spec", "cog", "remote",
        "contents", "probe", "security_hdf5", "security_sqlite", "trust", "rows", "opening", "blocks", "raster",
        "pictures", "validation", "destination", "strips", "readback", "needs", "journal", "noise", "blend", "stream",
        "fill", "mapping", "resample", "device", "delivery", "scratch", "nodes", "cluster", "warp", "target",
        "consistency", "sampler", "legs", "networks", "codes", "translator", "norms", "manifest", "weights_file",
        "package", "importing", "fit", "output", "plan", "translation", "chain", "reprojection", "metrics",
        "quicklook", "run", "estimate", "comparison", "pan_views", "premises", "findings", "evaluation", "charts",
        "report")
MAY_IMPORT = {"core": {"core"}, "training": {"training", "core"}, "cli": {"cli", "training", "core"},
              "": {"cli", "core", "plugin"}, "plugin": {"plugin"}, "resources": set()}
RASTERIO = ("opening", "blocks", "raster", "strips", "pictures", "readback")
QGIS = {"qgis", "processing", "osgeo"}
"""What the plugin finds in QGIS's own Python, beside the standard library."""
HEAVY = ("torch", "numpy", "rasterio", "pyproj", "affine", "pydantic", "safetensors", "kornia", "shapely", "rich",
         "lightning_fabric", "tensorboard", "torchmetrics", "jinja2", "distributed", "diffusers", "transformers")


def package_files(root):
    """The Python files of the package, as relative paths."""
    folders = [root, *(root / name for name in MAY_IMPORT if name)]
    files = [p for folder in folders for p in (folder.glob("*.py") if folder == root else folder.rglob("*.py"))]
    return sorted(p.relative_to(root) for p in files if "__pycache__" not in p.parts)


def imports(root, file):
    """(module as dotted name inside the package or outside, is ours, only for type checkers, at top level)."""
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    typing_only = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.If)
                   and ast.unparse(node.test) == "TYPE_CHECKING" for inner in ast.walk(node)}
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, False, id(node) in typing_only, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module, False, id(node) in typing_only, top
        elif isinstance(node, ast.ImportFrom):
            parents = file.parent.parts
            base = parents[: len(parents) - node.level + 1]
            if len(parents) < node.level - 1:
                yield "beyond the package", True, False, top
                continue
            for alias in node.names:
                yield ".".join([*base, *([node.module] if node.module else [alias.name])]), True, \
                    id(node) in typing_only, top


def violations(root):
    """Every import that breaks a law, as a sentence."""
    found = []
    for file in package_files(root):
        layer = file.parts[0] if len(file.parts) > 1 else ""
        own = file.parts[1].removesuffix(".py") if layer == "core" and len(file.parts) > 1 else None
        if own not in (*CORE, "__init__", None):
            found.append(f"{file} has no place in the order of core")
            continue
        for name, ours, typing_only, top in imports(root, file):
            target, *rest = name.split(".")
            if not ours:
                if layer == "plugin" and target not in QGIS | sys.stdlib_module_names and file.name != "worker_boot.py":
                    found.append(f"{file} imports {name}: the plugin has only QGIS and the standard library")
                elif target == "geoi2i" and file.name != "worker_boot.py":
                    found.append(f"{file} imports {name} absolutely")
                if target in ("rasterio", "osgeo") and own not in RASTERIO and layer in ("core", "training"):
                    found.append(f"{file} imports {name}: only {', '.join(RASTERIO)} may")
                if layer == "" and top and target not in sys.stdlib_module_names:
                    found.append(f"{file} imports {name} when the package is imported")
                continue
            if target == "__version__":
                continue
            if target not in MAY_IMPORT[layer]:
                found.append(f"{file} imports {name}: {layer or 'the root'} may not")
            elif layer == "" and top and file.name == "__init__.py":
                found.append(f"{file} imports {name} when the package is imported")
            elif layer == target == "core" and not typing_only:
                used = rest[0] if rest else "__init__"
                allowed = used == own or (used in CORE and own in CORE and CORE.index(used) < CORE.index(own))
                if not allowed:
                    found.append(f"{file} imports {name}, which stands below it")
    return found


def test_imports_run_one_way():
    assert violations(ROOT) == []


def test_the_order_of_core_names_every_file_and_nothing_else():
    there = {p.name.removesuffix(".py") for p in (ROOT / "core").iterdir() if p.name not in ("__init__.py",
                                                                                             "__pycache__")}
    assert there == set(CORE)


@pytest.mark.parametrize("file, line, sentence", [
    ("core/tiles.py", "from .raster import RasterSource", "which stands below it"),
    ("core/networks/resnet.py", "from ..run import Options", "which stands below it"),
    ("core/bands.py", "def late():\n    from . import fit", "which stands below it"),
    ("core/grid.py", "from ..training import loop", "core may not"),
    ("core/fit.py", "def late():\n    from ..cli.main import main", "core may not"),
    ("training/windows.py", "from ..cli import inputs", "training may not"),
    ("training/methods/extra.py", "from ...cli.main import main", "training may not"),
    ("core/run.py", "from geoi2i.core.bands import to_dtype", "absolutely"),
    ("cli/run.py", "import geoi2i", "absolutely"),
    ("core/fit.py", "import rasterio", "only opening, blocks, raster, strips, pictures, readback may"),
    ("training/loop.py", "def late():\n    from rasterio.windows import Window", "only opening, blocks, raster"),
    ("__init__.py", "import torch", "when the package is imported"),
    ("__init__.py", "from .core import errors", "when the package is imported"),
    ("plugin/layers.py", "import numpy", "only QGIS and the standard library"),
    ("plugin/worker.py", "def late():\n    from ..core.run import Options", "plugin may not"),
    ("plugin/provider.py", "import geoi2i", "only QGIS and the standard library"),
    ("core/run.py", "def late():\n    from ..plugin import models", "core may not"),
    ("core/surprise.py", "import os", "no place in the order"),
])
def test_a_planted_violation_is_caught(tmp_path, file, line, sentence):
    for name in package_files(ROOT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    with open(tmp_path / file, "a", encoding="utf-8") as text:
        text.write(f"\n{line}\n")
    found = violations(tmp_path)
    assert len(found) == 1 and sentence in found[0] and Path(file).name in found[0]


def test_an_import_for_type_checkers_is_free(tmp_path):
    for name in package_files(ROOT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    with open(tmp_path / "core/tiles.py", "a") as text:
        text.write("\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .run import Options\n")
    assert violations(tmp_path) == []


@pytest.mark.parametrize("module", ["geoi2i", "geoi2i.cli.main", "geoi2i.core.errors"])
def test_importing_loads_nothing_heavy(module):
    program = f"import sys, {module}; print(*sorted(set(m.split('.')[0] for m in sys.modules) & set({HEAVY})))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.split() == [], run.stderr


def test_the_lazy_api_holds_what_it_names():
    import geoi2i

    assert all(getattr(geoi2i, name).__name__ == name for name in geoi2i._API)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = geoi2i.nothing


def test_the_wheel_holds_every_package_on_disk():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"])
    there = {".".join(["geoi2i", *file.parent.parts]) for file in package_files(ROOT)}
    assert listed - {"geoi2i.resources"} == there - {"geoi2i.resources"}
    assert "geoi2i.resources" in listed
