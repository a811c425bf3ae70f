"""Which Python runs the worker, in what surroundings, and how to make one where there is none.

QGIS's own Python must not load torch, rasterio and pyproj: their libraries clash with QGIS's in one process.
"""

import os
import re
import shutil
import subprocess  # nosec B404 # programs are started from lists, no shell
import sys
from urllib.parse import quote

from qgis.core import QgsApplication, QgsSettings

from . import process
from .text import tr

SETTING = "GEOI2I_PYTHON"
"""Name of the environment variable, and of the setting in Processing's options."""
RECORD = "geoi2i-python.txt"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOREIGN = re.compile(r"(PYTHON|VIRTUAL_ENV$|CONDA_|GDAL_|OGR_|PROJ_|GTIFF_|CPL_|QGIS_|QT_|PIP_(USER|TARGET|PREFIX)$|"
                      r"LD_LIBRARY_PATH$|LD_PRELOAD$|DYLD_|SSL_CERT_|REQUESTS_CA_BUNDLE$|CURL_CA_BUNDLE$)")
_EXTRAS = ("kornia", "lightning-fabric", "tensorboard", "torchmetrics")
"""What training and the learned metrics need besides."""
BOX = "Make an environment for GeoI2I"
"""The box of Check installation."""
REMEDY = ("choose one under Settings > Options > Processing > Providers > GeoI2I, or tick Make an environment for "
          "GeoI2I in Check installation")


def is_ours(lines):
    """Whether `geoi2i doctor` has said this, and not any program that does what it is told and says nothing."""
    return any(line.startswith("geoi2i ") for line in lines)


class NoInterpreter(Exception):
    """There is no Python for the worker, and what to do."""


def interpreter():
    """Path of the Python that runs the worker.

    In order: the variable GEOI2I_PYTHON, the setting, what `geoi2i qgis install` recorded, the managed environment.

    Raises:
        NoInterpreter: one sentence.
    """
    for source, path in _named():
        if path:
            if not os.access(path, os.X_OK) or os.path.isdir(path):
                raise NoInterpreter(tr("{}, named by {}, is not a program: {}.").format(path, source, tr(REMEDY)))
            return path
    if os.path.exists(_marker()):
        return _python(managed_folder())
    raise NoInterpreter(tr("GeoI2I has no Python with torch to run in: {}.").format(tr(REMEDY)))


def is_missing():
    """Whether there is no environment, and no interpreter is named that would go before one."""
    return usable() is None and not any(path for _, path in _named())


def usable():
    """The interpreter that runs the worker, or None where there is none."""
    try:
        return interpreter()
    except NoInterpreter:
        return None


def _named():
    yield tr("the variable GEOI2I_PYTHON"), os.environ.get(SETTING, "")
    yield tr("the setting of the provider"), QgsSettings().value("Processing/Configuration/" + SETTING, "") or ""
    record = os.path.join(QgsApplication.qgisSettingsDirPath(), RECORD)
    if os.path.exists(record):
        with open(record, encoding="utf-8") as file:
            yield record, file.read().strip()


def clean(variables):
    """Surroundings without what QGIS set for itself: its libraries and data are of other versions."""
    kept = {key: value for key, value in variables.items() if not _FOREIGN.match(key)}
    kept.update(_proxy())
    return kept


def _proxy():
    """The proxy that QGIS is set to, as variables."""
    settings = QgsSettings()
    host, port = settings.value("proxy/proxyHost", ""), settings.value("proxy/proxyPort", "")
    if not settings.value("proxy/proxyEnabled", False, type=bool) or not host:
        return {}
    user, word = (quote(settings.value("proxy/proxy" + key, "") or "", safe="") for key in ("User", "Password"))
    kind = "socks5" if "socks" in settings.value("proxy/proxyType", "").lower() else "http"
    url = "{}://{}{}{}".format(kind, user + ":" + word + "@" if user else "", host, ":" + str(port) if port else "")
    return {key: url for name in ("http_proxy", "https_proxy") for key in (name, name.upper())}


def managed_folder():
    """The environment that the plugin makes: outside its own folder, which an update wipes."""
    return os.path.join(user_data("LOCALAPPDATA"), "geoi2i", "environment")


def user_data(windows="APPDATA"):
    """Where programs keep a user's data; `windows`: the variable that says it there."""
    if sys.platform == "win32":
        return os.environ.get(windows, os.path.expanduser("~"))
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Application Support")
    return os.environ.get("XDG_DATA_HOME", os.path.expanduser("~/.local/share"))


def _python(folder):
    return os.path.join(folder, *(("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")))


def _marker():
    return os.path.join(managed_folder(), "complete")


def create(feedback):
    """Makes the managed environment anew and proves that it runs.

    Raises:
        NoInterpreter: one sentence; what was there before is there again.
        process.Ended: after a cancel; the same.
    """
    base, folder = _base_python(), managed_folder()
    python, before = _python(folder), folder + ".before"
    install = [python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
               "-c", os.path.join(ROOT, "constraints.txt")]
    steps = (  # share of the time, what, how
        (0.05, tr("Making a virtual environment"), [base, "-I", "-m", "venv", folder]),
        (0.65, tr("Installing torch (a large download)"), [*install, "torch"]),
        (0.25, tr("Installing the other packages"),
         [*install, "-r", os.path.join(ROOT, "resources", "requirements.txt"), *_EXTRAS]),
        (0.05, tr("Trying it"), [python, "-I", os.path.join(ROOT, "plugin", "worker_boot.py"), "doctor"]),
    )
    done, said = 0.0, []

    def listen(_, line):
        said.append(line)
        feedback.pushConsoleInfo(line)

    shutil.rmtree(before, ignore_errors=True)
    if os.path.isdir(folder):  # an environment cannot be moved, but the old one can wait
        os.rename(folder, before)
    try:
        for share, text, command in steps:
            feedback.setProgressText(text)
            status = process.run(command, clean(os.environ), feedback, listen)
            if status or (command[-1] == "doctor" and not is_ours(said)):
                last = next((line for line in reversed(said) if line.strip()), "-")
                raise NoInterpreter(tr("{} failed with status {}: {}. The log above says more and can be "
                                       "copied.").format(text, status, last))
            done += share
            feedback.setProgress(100 * done)
        with open(_marker(), "w", encoding="utf-8") as file:
            file.write("All packages were installed and tried.\n")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.isdir(before):
            os.rename(before, folder)
        raise
    shutil.rmtree(before, ignore_errors=True)
    return python


def prefer(python):
    """Makes an interpreter the one that is used, unless the variable GEOI2I_PYTHON says otherwise."""
    QgsSettings().setValue("Processing/Configuration/" + SETTING, python)


def _base_python():
    """A Python new enough to make an environment with; never `sys.executable`, which may be QGIS itself."""
    names = [f"python3.{minor}" for minor in (12, 13, 11, 14)] + ["python3", "python"]
    for path in filter(None, map(shutil.which, names)):
        probe = [path, "-I", "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"]
        try:
            found = subprocess.run(probe, env=clean(os.environ), capture_output=True,  # nosec B603 # found on PATH
                                   timeout=30, check=False)
            if found.returncode == 0:
                return path
        except (OSError, subprocess.SubprocessError):
            continue
    raise NoInterpreter(tr("No Python 3.11 or newer with venv is on the path to make an environment with: install "
                           "one from python.org or your system (on Debian: apt install python3-venv), then try again."))
