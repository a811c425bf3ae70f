"""Which Python runs the worker, and the environment that the plugin makes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def managed(qgis) -> Path:
    return Path(qgis.environment["XDG_DATA_HOME"]) / "geoi2i" / "environment"


def test_the_order_of_interpreters(qgis, tmp_path):
    setting, record = (tmp_path / name for name in ("setting", "record"))
    for path in (setting, record):
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    found = qgis.python("""
import json, os, shutil
from qgis.core import QgsSettings, QgsApplication
from geoi2i.plugin import environment
setting, record = arguments
place = os.path.join(QgsApplication.qgisSettingsDirPath(), environment.RECORD)
kept, answers = open(place).read(), []
def ask():
    try:
        answers.append(environment.interpreter())
    except environment.NoInterpreter as error:
        answers.append(str(error))
try:
    ask()
    del os.environ["GEOI2I_PYTHON"]
    QgsSettings().setValue("Processing/Configuration/GEOI2I_PYTHON", setting)
    open(place, "w").write(record)
    ask()
    QgsSettings().remove("Processing/Configuration/GEOI2I_PYTHON")
    ask()
    os.remove(place)
    ask()
    os.makedirs(environment.managed_folder())
    open(os.path.join(environment.managed_folder(), "complete"), "w").close()
    ask()
finally:
    open(place, "w").write(kept)
    shutil.rmtree(environment.managed_folder())
print(json.dumps(answers))""", setting, record)
    assert found[:3] == [sys.executable, str(setting), str(record)]
    assert "has no Python with torch" in found[3] and found[4].startswith(str(managed(qgis)))


def test_the_worker_gets_nothing_of_what_qgis_set(qgis):
    kept = qgis.python("""
import json
from geoi2i.plugin import environment
print(json.dumps(environment.clean({name: "x" for name in arguments})))""", *(
        "PATH", "HOME", "GEOI2I_MODELS", "CUDA_VISIBLE_DEVICES", "PIP_INDEX_URL", "OMP_NUM_THREADS",
        "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "GDAL_DATA", "PROJ_LIB", "PROJ_DATA", "LD_LIBRARY_PATH",
        "LD_PRELOAD", "QGIS_PREFIX_PATH", "QT_PLUGIN_PATH", "SSL_CERT_FILE", "PIP_USER", "PIP_TARGET"))
    assert set(kept) == {"PATH", "HOME", "GEOI2I_MODELS", "CUDA_VISIBLE_DEVICES", "PIP_INDEX_URL", "OMP_NUM_THREADS"}


def test_the_proxy_of_qgis_is_that_of_the_worker(qgis):
    found = qgis.python("""
import json
from qgis.core import QgsSettings
from geoi2i.plugin import environment
facts = {"Enabled": True, "Host": "proxy.example", "Port": "8080", "User": "u", "Password": "p@/s:w"}
for key, value in facts.items():
    QgsSettings().setValue("proxy/proxy" + key, value)
try:
    print(json.dumps(environment.clean({})))
finally:
    QgsSettings().remove("proxy")""")
    assert found["https_proxy"] == found["HTTP_PROXY"] == "http://u:p%40%2Fs%3Aw@proxy.example:8080"


def test_an_environment_that_cannot_be_made_leaves_the_one_before(qgis):
    """Without any index torch is not to be had."""
    managed(qgis).mkdir(parents=True)
    (managed(qgis) / "old").touch()
    done = qgis.run("checkinstallation", CREATE="true", environment={
        "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PATH": _path(qgis)})
    text = done.stdout + done.stderr
    assert done.returncode == 1 and "Installing torch" in text and "can be copied" in text, text
    assert [path.name for path in managed(qgis).parent.rglob("*")] == ["environment", "old"]
    shutil.rmtree(managed(qgis))


def test_a_cancelled_environment_leaves_nothing(qgis, tmp_path):
    silent = socket.create_server(("127.0.0.1", 0))  # an index that takes calls and never answers
    hanging = tmp_path / "pip.conf"
    hanging.write_text(f"[global]\nindex-url = http://127.0.0.1:{silent.getsockname()[1]}/simple\ntimeout = 300\n")
    process = qgis.start("checkinstallation", CREATE="true", environment={
        "PIP_CONFIG_FILE": str(hanging), "PIP_FIND_LINKS": "", "PATH": _path(qgis)})
    end = time.monotonic() + 60
    while not (managed(qgis) / "bin" / "pip").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=30)
    silent.close()
    assert process.returncode != 0 and "no environment was left" in text, text
    assert not managed(qgis).exists()


def _path(qgis):
    """A path on which the Python of these tests is found."""
    return os.pathsep.join([qgis.environment["PATH"], os.path.dirname(os.path.realpath(sys.executable))])


@pytest.mark.environment
def test_an_environment_is_made_and_used(qgis, tmp_path):
    """Minutes, and a download: `make test-environment`."""
    path = {"PATH": _path(qgis), "GEOI2I_PYTHON": ""}
    record = qgis.profile / "geoi2i-python.txt"
    kept = record.read_text()
    record.unlink()
    try:
        done = qgis.run("checkinstallation", CREATE="true", environment=path, timeout=1500)
        assert done.returncode == 0 and "GeoI2I is ready" in done.stdout, done.stdout + done.stderr
        sample = ROOT / "resources" / "samples" / "jupiter-cassini.tif"
        run = qgis.run("translate", INPUT=sample, MODEL="jupiter-rgb", OUTPUT=tmp_path / "o.tif", environment=path)
        assert run.returncode == 0 and str(managed(qgis)) in run.stdout, run.stdout + run.stderr
    finally:
        record.write_text(kept)
        subprocess.run(["rm", "-rf", str(managed(qgis))], check=True)
