"""Laws of the house: imports are relative, run one way, and cost nothing until something is used."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Core's rooms and what is in each: a file imports only what stands before it.
ROOMS = {
    "": "errors folders files locks writing memory documents validation nodata rounding cores device "
        "staging grid",
    "raster": "bands metadata rows statistics pictures remote probe tiff limits security_hdf5 security_sqlite "
              "security_tiff security_vrt security formats listing sharing unreadable opening reader header decoding "
              "decimated footprint source",
    "reproject": "frame warping coordinates coordinate_bands heights view extent target_grid resampled polygons "
                 "cutline kernels pixel_map warp warped_raster",
    "networks": "resnet closed_form latitude plain unet latent_sizes latent instance catalogue",
    "metrics": "measure block tile window pixel histogram spectrum seams agreement backbones features inception "
               "weights fsim niqe pansharpening perceptual catalogue",
    "inference": "tiles steps sampler noise blend stream fill latent_padding translator instance_norm back_projection",
    "models": "normalisers manifest folders matching weights package convert",
    "output": "metadata profile storage creation inherited overviews cog strips readback checks needs completed older "
              "parts journal callbacks execute scratch nodes dask_cluster",
    "pipeline": "segments radiometry ranges reprojected plan outputs cutting estimates passes translation reprojection "
                "chained_raster planning summary",
    "evaluation": "setup thumbnail compare pan_views results curves options comparing evaluate charts report quicklook"}
CORE = [*(f"{room}/{name}".lstrip("/") for room, names in ROOMS.items() for name in names.split()), "run"]
MAY_IMPORT = {"core": {"core"}, "training": {"training", "core"}, "cli": {"cli", "training", "core"},
              "": {"cli", "core", "plugin"}, "plugin": {"plugin"}, "resources": set()}
LONGEST_FILE, LONGEST_CLASS = 350, 150
"""Lines that can still be read in one go."""
RASTERIO = ("raster/opening", "raster/reader", "raster/metadata", "raster/header", "raster/decoding",
            "raster/decimated", "raster/source", "raster/footprint", "raster/pictures", "output/strips",
            "output/readback")
QGIS = {"qgis", "processing", "osgeo"}
"""What the plugin finds in QGIS's own Python, beside the standard library."""
TORCH_FREE = [
    *CORE[:CORE.index("rounding")], "cores", "grid", *(f"raster/{name}" for name in ROOMS["raster"].split()),
    *(f"reproject/{name}" for name in "frame warping coordinates coordinate_bands heights view extent target_grid "
                                      "resampled polygons cutline".split()),
    "networks/latent_sizes", "inference/tiles", "inference/steps", "models/normalisers", "models/manifest",
    "models/folders", "models/matching",
    "output/profile", "output/storage", "output/creation", "output/checks", "output/needs", "output/completed",
    "output/journal", "pipeline/reprojected"]
"""Files of core that a command reads before it works, and that other programs may use without torch."""
HEAVY = ("torch", "numpy", "rasterio", "pyproj", "affine", "pydantic", "safetensors", "kornia", "shapely", "rich",
         "lightning_fabric", "tensorboard", "torchmetrics", "jinja2", "distributed", "diffusers", "transformers",
         "pyogrio")


def sources():
    """The Python files of the package: path -> text."""
    folders = [ROOT, *(ROOT / name for name in MAY_IMPORT if name)]
    files = [p for folder in folders for p in (folder.glob("*.py") if folder == ROOT else folder.rglob("*.py"))]
    return {p.relative_to(ROOT): p.read_text(encoding="utf-8") for p in sorted(files) if "__pycache__" not in p.parts}


SOURCES = sources()


parsed = functools.cache(ast.parse)


@functools.cache
def import_statements(text):
    """Each import of a file, and whether it is at top level; most files are asked for again with every planted text."""
    tree = parsed(text)
    return [(node, node in tree.body) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(file, text, known):
    """(module as path inside the package or dotted name outside, is ours, at top level); for type checkers too."""
    for node, top in import_statements(text):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module, False, top
        elif isinstance(node, ast.ImportFrom):
            parents = file.parent.parts
            if len(parents) < node.level - 1:
                yield "beyond the package", True, top
                continue
            base = [*parents[: len(parents) - node.level + 1], *(node.module or "").split(".")]
            for alias in node.names:
                path = "/".join(part for part in (*base, alias.name) if part)
                yield (path if Path(f"{path}.py") in known else path.rpartition("/")[0] or path), True, top


def violations(sources):
    """Every import that breaks a law, as a sentence."""
    found = []
    for file, text in sources.items():
        layer = file.parts[0] if len(file.parts) > 1 else ""
        own = file.relative_to("core").with_suffix("").as_posix() if layer == "core" else None
        if layer == "core" and own not in CORE and file.name != "__init__.py":
            found.append(f"{file} has no place in the order of core")
            continue
        for name, ours, top in imports(file, text, sources):
            target = re.split(r"[./]", name)[0]
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
            elif layer == target == "core" and not stands_before(name.removeprefix("core/"), own):
                found.append(f"{file} imports {name}, which stands below it")
    return found


def stands_before(used, own):
    """Whether a file of core may import another, or what a whole room offers."""
    if own.endswith("/__init__"):  # which offers what is in its room
        return used.partition("/")[0] == own.partition("/")[0]
    if used in CORE:
        return own in CORE and CORE.index(used) < CORE.index(own)
    rooms = [*ROOMS, "run"]
    room = own.partition("/")[0] if "/" in own else own if own == "run" else ""
    return used == room or (used in rooms and rooms.index(used) < rooms.index(room))


def test_imports_run_one_way():
    assert violations(SOURCES) == []


def test_the_order_of_core_names_every_file_and_nothing_else():
    there = {path.relative_to("core").with_suffix("").as_posix() for path in SOURCES if path.parts[0] == "core"}
    assert {path for path in there if not path.endswith("__init__")} == set(CORE)


@pytest.mark.parametrize("file, line, sentence", [
    ("core/inference/tiles.py", "from ..run import Options", "which stands below it"),
    ("core/raster/bands.py", "from .source import RasterSource", "which stands below it"),
    ("core/networks/resnet.py", "from ...core.run import Options", "which stands below it"),
    ("core/raster/bands.py", "def late():\n    from ..models import matching", "which stands below it"),
    ("core/grid.py", "from .raster import RasterSource", "which stands below it"),
    ("core/inference/tiles.py", "if TYPE_CHECKING:\n    from ..run import Options", "which stands below it"),
    ("core/grid.py", "from ..training import loop", "core may not"),
    ("core/models/matching.py", "def late():\n    from ...cli.main import main", "core may not"),
    ("training/windows.py", "from ..cli import inputs", "training may not"),
    ("training/methods/extra.py", "from ...cli.main import main", "training may not"),
    ("core/run.py", "from geoi2i.core.raster.bands import Band", "absolutely"),
    ("cli/run.py", "import geoi2i", "absolutely"),
    ("core/models/matching.py", "import rasterio", "only raster/opening, raster/reader"),
    ("training/loop.py", "def late():\n    from rasterio.windows import Window", "only raster/opening, raster/reader"),
    ("__init__.py", "import torch", "when the package is imported"),
    ("__init__.py", "from .core import errors", "when the package is imported"),
    ("plugin/layers.py", "import numpy", "only QGIS and the standard library"),
    ("plugin/worker.py", "def late():\n    from ..core.run import Options", "plugin may not"),
    ("plugin/provider.py", "import geoi2i", "only QGIS and the standard library"),
    ("core/run.py", "def late():\n    from ..plugin import models", "core may not"),
    ("core/surprise.py", "import os", "no place in the order"),
    ("core/raster/surprise.py", "import os", "no place in the order"),
])
def test_a_planted_violation_is_caught(file, line, sentence):
    path = Path(file)
    found = violations(SOURCES | {path: f"{SOURCES.get(path, '')}\n{line}\n"})
    assert len(found) == 1 and sentence in found[0] and path.name in found[0]


def too_long(sources):
    """Every file and every class with more lines than may be, as a sentence."""
    for file, text in sources.items():
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            yield f"{file} has {lines} lines"
        yield from (f"{node.name} in {file} has {lines} lines" for node in ast.walk(parsed(text))
                    if isinstance(node, ast.ClassDef)
                    and (lines := node.end_lineno - node.lineno + 1) > LONGEST_CLASS)


def test_no_file_and_no_class_is_too_long():
    assert list(too_long(SOURCES)) == []


def test_what_is_too_long_is_caught():
    body = "    a = 1\n"
    long = {Path("core/a.py"): f"class A:\n{body * LONGEST_CLASS}", Path("cli/b.py"): "b = 1\n" * (LONGEST_FILE + 1)}
    fitting = {Path("core/a.py"): f"class A:\n{body * (LONGEST_CLASS - 1)}", Path("cli/b.py"): "b = 1\n" * LONGEST_FILE}
    assert len(list(too_long(long))) == 2 and list(too_long(fitting)) == []


@pytest.mark.parametrize("module", ["geoi2i", "geoi2i.cli.main", "geoi2i.core.errors"])
def test_importing_loads_nothing_heavy(module):
    program = f"import sys, {module}; print(*sorted(set(m.split('.')[0] for m in sys.modules) & set({HEAVY})))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.split() == [], run.stderr


def torch_ways(sources):
    """From each file that has to do without torch to torch: the files on the way, joined by arrows."""
    known = {path.with_suffix("").as_posix(): path for path in sources}
    starts = [*(f"core/{name}" for name in TORCH_FREE), *(name for name in known if name.startswith("cli/"))]
    found = []
    for begin in starts:
        waiting, seen = [(begin,)], {begin}
        while waiting:
            way = waiting.pop()
            path = known[way[-1]]
            parents = ["/".join([*folder.parts, "__init__"]) for folder in path.parents if folder.parts]
            used = [(parent, True) for parent in parents]
            used += [(name, ours) for name, ours, top in imports(path, sources[path], sources) if top]
            for name, ours in used:
                if not ours and re.match(r"(torch|kornia|torchmetrics|safetensors\.torch)\b", name):
                    found.append(" -> ".join([*way, name]))
                elif ours and name in known and name not in seen:
                    seen.add(name)
                    waiting.append((*way, name))
    return found


def test_no_way_leads_from_what_comes_before_work_to_torch():
    assert torch_ways(SOURCES) == []


@pytest.mark.parametrize("file, line", [
    ("core/raster/bands.py", "import torch"), ("core/grid.py", "from torch import Tensor"),
    ("core/inference/tiles.py", "from .stream import RowBand"), ("core/raster/__init__.py", "import torch"),
    ("core/networks/__init__.py", "from .catalogue import NETWORKS"), ("cli/events.py", "from ..core import device"),
    ("core/models/matching.py", "from .package import ModelPackage")])
def test_a_planted_way_to_torch_is_found(file, line):
    path = Path(file)
    found = torch_ways(SOURCES | {path: f"{SOURCES[path]}\n{line}\n"})
    assert found and all(f"{path.with_suffix('').as_posix()} -> " in way for way in found)


def test_importing_all_of_it_loads_no_torch():
    modules = [f"geoi2i.core.{name.replace('/', '.')}" for name in TORCH_FREE]
    modules += [f"geoi2i.cli.{path.stem}" for path in SOURCES if path.parts[0] == "cli" and path.stem != "__init__"]
    program = f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr


def test_the_lazy_api_holds_what_it_names():
    import geoi2i

    assert all(getattr(geoi2i, name).__name__ == name for name in geoi2i._API)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = geoi2i.nothing


def test_the_wheel_holds_every_package_on_disk():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"])
    there = {".".join(["geoi2i", *file.parent.parts]) for file in SOURCES}
    assert listed - {"geoi2i.resources"} == there - {"geoi2i.resources"}
    assert "geoi2i.resources" in listed
