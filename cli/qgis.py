"""`geoi2i qgis`: link the plugin into QGIS, and prove that it works there."""

import glob
import os
import shutil
import subprocess  # nosec B404 # programs are started from lists, no shell
import sys
import tempfile
from pathlib import Path

import click

from .options import verbose_option

ROOT = Path(__file__).resolve().parent.parent
RECORD = "geoi2i-python.txt"
"""In a profile: the interpreter that has what geoi2i needs. The plugin reads it."""


@click.group()
def command() -> None:
    """Install and check the QGIS plugin."""


@command.command()
@click.option("--profile", default="default", show_default=True, help="QGIS profile.")
@verbose_option
def install(profile: str, verbose: bool) -> None:
    """Link this geoi2i into a QGIS profile, and record this Python for it.

    The folder of profiles is QGIS's own, or QGIS_CUSTOM_CONFIG_PATH.
    """
    for folder in _profiles():
        _link(folder / profile)
    program = _qgis_process()
    if program and profile == "default":
        _run([program, "plugins", "enable", "geoi2i"])
        click.echo("Enabled the plugin; start QGIS and look for GeoI2I in the Processing toolbox, or try: "
                   "geoi2i qgis check")
    else:
        click.echo("Enable GeoI2I in QGIS under Plugins > Manage and Install Plugins.")


def _link(folder: Path) -> None:
    """Puts the plugin into a profile."""
    from ..core.errors import Geoi2iError
    from ..core.writing import write_whole

    link = folder / "python" / "plugins" / "geoi2i"
    if link.exists() and not link.is_symlink():
        raise Geoi2iError(f"{link} holds another GeoI2I, from a zip or the plugin manager: remove it there first.")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT, target_is_directory=True)
        write_whole(folder / RECORD, sys.executable + "\n")
    except OSError as error:
        raise Geoi2iError(f"{link} cannot be made ({error.strerror}): install the plugin from its zip.") from error
    click.echo(f"Linked {link} -> {ROOT}\nRecorded {sys.executable} in {folder / RECORD}")


@command.command()
@verbose_option
def check(verbose: bool) -> None:
    """Translate the sample scene through the installed QGIS (default profile) and compare the result."""
    from ..core.errors import Geoi2iError
    from ..core.raster.source import RasterSource

    program = _qgis_process()
    if program is None:
        raise Geoi2iError("No qgis_process is on the path: install QGIS 3.22 or newer, or name the program in "
                          "QGIS_PROCESS.")
    scene = ROOT / "resources" / "samples" / "jupiter-cassini.tif"
    with tempfile.TemporaryDirectory(prefix="geoi2i-check-") as folder:
        output = Path(folder) / "same.tif"
        _run([program, "run", "geoi2i:translate", f"--INPUT={scene}", "--MODEL=identity", f"--OUTPUT={output}"])
        if not output.exists():
            raise Geoi2iError(f"{program} ended without a result: run geoi2i qgis install, then try again.")
        one, other = (RasterSource.open(path).decimated().pixels for path in (scene, output))
        if not (one == other).all():
            raise Geoi2iError("QGIS gave other pixels than it got: the plugin in the profile is not this one. Run "
                              "geoi2i qgis install.")
    click.echo(f"{program} translates through the plugin, with {sys.executable} or what the profile records.")


def _run(arguments: list[str]) -> None:
    """Runs QGIS without a screen; its last words where it fails."""
    from ..core.errors import Geoi2iError

    # QGIS takes the first python3 of the path for its own: not this one, but that of its own installation.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PATH"] = os.pathsep.join([os.path.dirname(arguments[0]), environment.get("PATH", "")])
    environment.setdefault("QT_QPA_PLATFORM", "offscreen")
    try:
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True,  # nosec B603 # QGIS's own
                              errors="replace",
                              timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Geoi2iError(f"{arguments[0]} cannot be run ({error}): name QGIS's own qgis_process in QGIS_PROCESS."
                          ) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Geoi2iError(f"{' '.join(arguments[:3])} ended with status {done.returncode}: "
                          f"{said[-1] if said else 'it printed nothing'}", remedy="Check that QGIS itself starts.")


def _profiles() -> list[Path]:
    """Where the versions of QGIS that are here keep their profiles."""
    custom = os.environ.get("QGIS_CUSTOM_CONFIG_PATH")
    if custom:
        return [Path(custom) / "profiles"]
    from ..core.folders import user_data

    folders = [user_data() / "QGIS" / version / "profiles" for version in ("QGIS3", "QGIS4")]
    return [folder for folder in folders if folder.is_dir()] or folders[:1]


def _qgis_process() -> str | None:
    """The program; on Debian 12 the script of that name is broken and the binary beside it works."""
    named = os.environ.get("QGIS_PROCESS")
    if named:
        return named
    patterns = ("/Applications/QGIS*.app/Contents/MacOS/bin/qgis_process", "C:/Program "
        "Files/QGIS*/bin/qgis_process-*.bat")
    found = [shutil.which("qgis_process.bin"), shutil.which("qgis_process"),
             *(path for pattern in patterns for path in sorted(glob.glob(pattern)))]
    return next(filter(None, found), None)
