"""A real QGIS without a screen: its own profile, the plugin linked into it, this Python as the worker's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

ROOT = Path(__file__).resolve().parent.parent.parent


def program() -> str:
    found = os.environ.get("QGIS_PROCESS") or shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    assert found, "The tests of the plugin need QGIS: apt install qgis python3-qgis."
    return found


class Qgis:
    """QGIS with a fresh profile."""

    def __init__(self, folder: Path):
        self.program = program()
        self.profile = folder / "profiles" / "default"
        runtime = folder / "runtime"
        runtime.mkdir(mode=0o700, parents=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GEOI2I", "OMP_", "QGIS_"))}
        # QGIS takes the first python3 of the path for its own.
        kept["PATH"] = os.pathsep.join([os.path.dirname(self.program), kept["PATH"]])
        self.environment = {**kept, "QGIS_CUSTOM_CONFIG_PATH": str(folder), "QT_QPA_PLATFORM": "offscreen",
                            "XDG_RUNTIME_DIR": str(runtime), "XDG_DATA_HOME": str(folder / "data"),
                            "XDG_CONFIG_HOME": str(folder / "config"),
                            "GEOI2I_PYTHON": sys.executable, "LC_ALL": "C.UTF-8"}

    def command(self, algorithm, *, options=(), **parameters):
        values = [f"--{key}={value}" for key, value in parameters.items()]
        return [self.program, *options, "run", f"geoi2i:{algorithm}", *values]

    def run(self, algorithm, *, options=(), environment=None, cwd=None, timeout=180, **parameters):
        """Runs an algorithm by qgis_process; `environment` is added to that of the profile."""
        return subprocess.run(self.command(algorithm, options=options, **parameters), capture_output=True, text=True,
                              errors="replace", env={**self.environment, **(environment or {})}, cwd=cwd,
                              timeout=timeout)

    def start(self, algorithm, *, environment=None, **parameters):
        """The same, not waited for."""
        return subprocess.Popen(self.command(algorithm, **parameters), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, errors="replace", env={**self.environment, **(environment or {})})

    def python(self, text: str, *arguments, environment=None):
        """Runs a PyQGIS script that has started QGIS and Processing; its last line is JSON."""
        python, start = os.environ.get("QGIS_PYTHON", "/usr/bin/python3"), Path(__file__).with_name("pyqgis.py")
        done = subprocess.run([python, str(start), text, *map(str, arguments)], capture_output=True, text=True,
                              errors="replace", timeout=180, env={**self.environment, **(environment or {})})
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def qgis(tmp_path_factory):
    found = Qgis(tmp_path_factory.mktemp("qgis"))
    this = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}  # the checkout that is tested
    subprocess.run([sys.executable, "-m", "geoi2i", "qgis", "install"], check=True, capture_output=True,
                   env={**found.environment, **this})
    return found


@pytest.fixture
def scene(tmp_path):
    """`scene(name=..., bands=3, **profile)`: a small raster with a hole, and its path."""

    def make(name="scene.tif", bands=3, height=60, width=70, dtype="uint8", crs="EPSG:32633", nodata=0, **profile):
        rng = np.random.default_rng(1)
        pixels = rng.integers(1, 250, (bands, height, width)).astype(dtype)
        pixels[:, 5:15, 20:30] = nodata or 0
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=dtype, crs=crs,
                           nodata=nodata, transform=Affine(30, 0, 500_000, 0, -30, 4_000_000), **profile) as out:
            out.write(pixels)
        return path

    return make
