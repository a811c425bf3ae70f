"""What can be read off the plugin's source: old Pythons, both Qts, nothing heavy, and the rules of the repository."""

import ast
import configparser
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from forms import calls, named_in, parameter_names

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = [ROOT / "__init__.py", *sorted((ROOT / "plugin").rglob("*.py"))]
# Classes inside classes, and class methods with capital letters: the only names after a dot that are no enum.
NO_ENUM = {"QGIS_VERSION"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_python_3_9_can_read_it(file):
    ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_ruff_finds_no_syntax_newer_than_python_3_9():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "-q", "--isolated", "--target-version", "py39",
                           "--select", "E9,F", *map(str, FILES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_worker_starts_on_any_python_3():
    """To say that it is too old."""
    ast.parse((ROOT / "plugin/worker_boot.py").read_text(encoding="utf-8"), feature_version=(3, 4))


@pytest.mark.parametrize("file", FILES[1:], ids=lambda f: str(f.relative_to(ROOT)))
def test_every_enum_is_written_in_full(file):
    """Qt 6 knows `Qt.CheckState.Checked` only, not `Qt.Checked`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = [f"line {node.lineno}: {ast.unparse(node)}" for node in ast.walk(tree)
             if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
             and re.fullmatch(r"Qt|Qgis|Qgs\w+|Q[A-Z]\w+", node.value.id) and node.attr[0].isupper()
             and node.attr not in NO_ENUM and not isinstance(parents[node], ast.Attribute)]
    assert found == []


def test_no_text_of_a_form_calls_a_parameter_by_its_name():
    """A dialog shows labels. Examples for programs are at the end of a help text, or of an algorithm's."""
    texts = [(file.name, "".join(part.value for part in ast.walk(call) if isinstance(part, ast.Constant)
                                 and isinstance(part.value, str))) for file, call in calls("tr")]
    assert len(texts) > 150 and {"INPUT", "PIXEL_SIZE", "TARGET_CRS", "EXTENT"} <= parameter_names()
    assert [(file, text) for file, text in texts if named_in(text.partition("Example: ")[0])] == []


def test_a_parameter_that_is_called_by_its_name_is_found():
    assert named_in("Layer a has no pixels: give EXTENT and PIXEL_SIZE.") == ["EXTENT", "PIXEL_SIZE"]
    assert named_in("Could not load source layer for INPUT: a.tif not found") == named_in("A GeoTIFF, CRS, JSON") == []


def test_importing_the_root_loads_nothing_heavy():
    program = ("import sys, geoi2i; geoi2i.classFactory; "
               "sys.exit(', '.join({'torch', 'numpy', 'rasterio', 'pyproj'} & set(sys.modules)) or 0)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_metadata_is_complete():
    facts = configparser.ConfigParser()
    facts.read(ROOT / "metadata.txt", encoding="utf-8")
    general = facts["general"]
    for key in ("name", "description", "about", "version", "qgisMinimumVersion", "author", "email", "tracker",
                "repository"):
        assert general[key].strip(), key
    import geoi2i

    assert general["version"] == geoi2i.__version__ and general["hasProcessingProvider"] == "yes"
    assert "supportsQt6" not in general and (ROOT / general["icon"]).is_file()


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    """The plugin as `make plugin` packs it."""
    path = tmp_path_factory.mktemp("zip") / "geoi2i.zip"
    subprocess.run(["git", "archive", "--prefix=geoi2i/", "--format=zip", "-o", str(path), "HEAD"], cwd=ROOT,
                   check=True)
    return path


def test_the_zip_holds_what_the_repository_of_plugins_wants(zipped):
    assert zipped.stat().st_size < 25_000_000
    names = zipfile.ZipFile(zipped).namelist()
    assert {name.split("/")[0] for name in names} == {"geoi2i"}
    for needed in ("__init__.py", "metadata.txt", "LICENSE", "plugin/worker_boot.py", "core/run.py", "constraints.txt",
                   "resources/requirements.txt", "resources/models/jupiter-rgb/weights.safetensors"):
        assert f"geoi2i/{needed}" in names
    forbidden = (".pyc", "__pycache__", ".git", "__MACOSX", ".so", ".dll", ".exe", ".whl")
    assert [name for name in names if any(word in name for word in forbidden)
            or any(part.startswith(".") for part in name.split("/"))] == []


@pytest.fixture(scope="module")
def unpacked(zipped, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(zipped).extractall(folder)
    return folder / "geoi2i"


def test_bandit_finds_nothing(unpacked):
    """plugins.qgis.org runs it over every upload, and shows what it finds."""
    done = subprocess.run([sys.executable, "-m", "bandit", "-q", "-r", str(unpacked)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_secret_is_found_but_the_hashes_that_are_known(unpacked):
    known = json.loads((ROOT / ".secrets.baseline").read_text())["results"]
    done = subprocess.run([sys.executable, "-m", "detect_secrets", "scan", "--all-files", "."], cwd=unpacked,
                          capture_output=True, text=True, check=True)
    found = {(name, each["hashed_secret"]) for name, all_of in json.loads(done.stdout)["results"].items()
             for each in all_of}
    assert found <= {(name, each["hashed_secret"]) for name, all_of in known.items() for each in all_of}


def test_no_link_of_the_zip_leads_nowhere(unpacked):
    for page in unpacked.glob("*.md"):
        links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == [], page.name


def test_the_icon_is_a_picture_of_pixels(unpacked):
    facts = configparser.ConfigParser()
    facts.read(unpacked / "metadata.txt", encoding="utf-8")
    assert (unpacked / facts["general"]["icon"]).read_bytes().startswith(b"\x89PNG")
