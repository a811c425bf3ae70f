"""Laws of what older versions left half-finished: it is refused with a reason or discarded, never mixed, and taken for
theirs only where that is certain."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from geoi2i.core.errors import RasterError
from geoi2i.core.files import Folder
from geoi2i.core.models.package import identity_package
from geoi2i.core.output import older, strips
from geoi2i.core.run import Callbacks, Compute, translate_raster

TIFF = b"II*\0\x08\0\0\0"
FACTS = {"model": "identity 1", "scale": 0.1, "method": "räumlich", "inputs": {"scene.tif": [12, 34]}}
DIGEST = hashlib.sha256(json.dumps(FACTS, sort_keys=True).encode()).hexdigest()[:12]
JOURNAL = {f"{DIGEST}/journal.json": json.dumps(FACTS, indent=1).encode()}
RUN = JOURNAL | {"lock": b""} | {f"{DIGEST}/{name}": TIFF for name in (
    "strip-0-00000000.tif", "mask-0-00000000.tif", "done-0-00000000.json", ".strip-0-00000001.tif.node-1.lan-4711.tmp")}
FLAT = {"strip-0-00000000.tif": TIFF, "mask-0-00000000.tif": TIFF, "strip-1-00000000.tif": TIFF}
LEFT = {
    "stopped at a strip": RUN,
    "stopped in a pass": RUN | {f"{DIGEST}/pass-0-8-step-0-5/{name}": TIFF for name in (
        "strip-0-00000000.tif", ".mask-0-00000000.tif.node-9.tmp")},
    "stopped when it assembled": RUN | {f"{DIGEST}/{name}": b"" for name in (
        "template.vrt", "template.tif", ".output.tif.node-4711.tmp")},
    "stopped before its output got its name": RUN | {f"{DIGEST}/{name}": b"{}" for name in (
        "output.tif", "output.aux.xml", "published.json")},
    "stopped when it cleared up": {"lock": b"", f"{DIGEST}/strip-0-00000000.tif": TIFF,
                                   f"{DIGEST}/published.json": b'{"size": 7, "time_ns": 8, "sidecar": null}'},
    "stopped before its journal": {"lock": b"", f"{DIGEST}/.journal.json.node-4711.tmp": b"{"},
    "could not resume": FLAT | {"strip-0-00000512.tif": b""},
    "could not resume, assembled": FLAT | {"template.vrt": b"", "template.tif": TIFF, "output.tif": TIFF},
    "listed its strips": FLAT | {"level-0.vrt": b"", "level-1.vrt": b"", "output.tif": TIFF},
    "the first": {"strip-00000000.tif": TIFF, "mask-00000000.tif": TIFF, "mosaic.vrt": b"", "output.tif": TIFF,
                  "output.tif.ovr.tmp": TIFF, "output.tif.msk.ovr.tmp": TIFF}}


def lay(output, files):
    """A folder of parts with these files."""
    for name, content in files.items():
        path = output.parent / f"{output.name}.geoi2i-parts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")}


@pytest.fixture(autouse=True)
def low_strips(monkeypatch):
    monkeypatch.setattr(strips, "_STRIP_BYTES", 1)


@pytest.fixture
def source(make_raster):
    return make_raster(np.random.default_rng(0).integers(0, 255, (1, 1400, 60), "uint8"), name="scene.tif", tiled=True,
                       blockxsize=256, blockysize=256)


@pytest.fixture
def output(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "o.tif"


def translate(source, output, overwrite=False, callbacks=None):
    return translate_raster(source, output, identity_package(1), compute=Compute(device="cpu"), overwrite=overwrite,
                            callbacks=callbacks or Callbacks())


@pytest.mark.slow
@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_it_is_refused_as_it_is_and_discarded_where_that_is_wanted(left, source, output):
    lay(output, left)
    before = tree(output.parent)
    with pytest.raises(RasterError, match=r"o\.tif\.geoi2i-parts was started by an older version of geoi2i: "
                                          r"--overwrite starts again\.$"):
        translate(source, output)
    assert tree(output.parent) == before
    found = translate(source, output, overwrite=True).read_bytes()
    assert os.listdir(output.parent) == ["o.tif"]
    assert translate(source, output.with_name("new.tif")).read_bytes() == found


@pytest.mark.slow
def test_the_command_line_says_so_in_one_sentence(source, output):
    lay(output, RUN)
    command = [sys.executable, "-m", "geoi2i", "run", "-m", "identity", "-i", source, "-o", output, "--device", "cpu"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2 and not output.exists()
    assert refused.stderr == (f"Error: {output}.geoi2i-parts was started by an older version of geoi2i: --overwrite "
                              "starts again.\n")
    assert subprocess.run([*command, "--overwrite"], capture_output=True).returncode == 0 and output.exists()


def test_strips_of_the_very_same_run_are_not_mixed(source, output):
    """What is left has the facts of the run that starts, and so its digest; its pixels are others."""
    def stop(done, total):
        if done > 1100:
            raise KeyboardInterrupt

    expected = translate(source, output.with_name("expected.tif")).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        translate(source, output, callbacks=Callbacks(stop))
    run, = output.parent.glob("o.tif.geoi2i-parts/*/")
    other = translate(source, output.with_name("other.tif"))
    assert (run / "done-0-00000000.json").exists()
    shutil.copyfile(other, run / "strip-0-00000000.tif")
    (run.parent / "geoi2i").unlink()  # older versions set no marker
    with pytest.raises(RasterError, match="older version"):
        translate(source, output)
    assert translate(source, output, overwrite=True).read_bytes() == expected


@pytest.mark.parametrize("left", [
    RUN | {"notes.txt": b"mine"}, RUN | {f"{DIGEST}/notes.txt": b"mine"}, RUN | {f"{DIGEST}/pass-0-8-step-0-5/a": b""},
    RUN | {"my folder/strip-0-00000000.tif": TIFF}, RUN | {f"{DIGEST}/journal.json": b'{"model": "another"}'},
    RUN | {f"{DIGEST}/journal.json": b"{"}, {name: content for name, content in RUN.items() if name not in JOURNAL},
    RUN | {"0123456789ab/strip-0-00000000.tif": TIFF}, RUN | {"0123456789ab/published.json": b'{"size": 7}'},
    RUN | {"geoi2i": b"parts of a raster, layout 3\n"},
    RUN | FLAT, FLAT | {"notes.txt": b"mine"}, FLAT | {"strip-0-00000001.tif": b"mine"}, {"output.tif": TIFF}])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_certainly_theirs_is_refused_and_left(left, overwrite, source, output):
    lay(output, left)
    before = tree(output.parent)
    with pytest.raises(RasterError, match="holds what this version of geoi2i did not make"):
        translate(source, output, overwrite)
    assert tree(output.parent) == before


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("left, name", [
    (RUN, f"{DIGEST}/strip-0-00000000.tif"), (RUN, "lock"), (JOURNAL, DIGEST), (FLAT, "strip-0-00000000.tif")])
def test_links_are_not_theirs(left, name, source, output, tmp_path):
    lay(output, left)
    link = output.parent / "o.tif.geoi2i-parts" / name
    os.replace(link, tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RasterError, match="holds what this version of geoi2i did not make"):
        translate(source, output, overwrite=True)
    assert link.is_symlink() and (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.name == "nt", reason="files have no owners there")
def test_what_belongs_to_another_user_is_not_theirs(output):
    lay(output, RUN)
    folder = Folder.open(output.parent / "o.tif.geoi2i-parts")
    assert older.is_older(folder, os.geteuid()) and not older.is_older(folder, os.geteuid() + 1)


@pytest.mark.slow
@pytest.mark.parametrize("left", ["stopped in a pass", "stopped when it cleared up", "could not resume, assembled"])
def test_a_crash_while_it_is_discarded_changes_nothing(left, source, output, monkeypatch):
    """Whichever removal comes last: the next run is refused or starts anew, and with --overwrite all is well."""
    for number in range(len(LEFT[left]) - ("lock" in LEFT[left])):
        lay(output, LEFT[left])
        count = iter(range(100))

        def crashes(function, number=number, count=count):
            def call(*arguments, **options):
                if next(count) == number:
                    raise KeyboardInterrupt
                function(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("unlink", "rmdir"):
                patch.setattr(os, name, crashes(getattr(os, name)))
            with pytest.raises(KeyboardInterrupt):
                translate(source, output, overwrite=True)
        if os.path.exists(f"{output}.geoi2i-parts"):
            with pytest.raises(RasterError, match="older version"):
                translate(source, output)
        translate(source, output, overwrite=True)
        assert os.listdir(output.parent) == ["o.tif"]
        output.unlink()


@pytest.mark.skipif(os.name == "nt", reason="the locks are others there")
def test_an_older_version_at_work_is_left_alone(source, output):
    import fcntl

    lay(output, RUN)
    before = tree(output.parent)
    with open(output.parent / "o.tif.geoi2i-parts" / "lock", "rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RasterError, match="is being written by another run"):
            translate(source, output, overwrite=True)
    assert tree(output.parent) == before
