"""Laws of writing: what geoi2i did not make is neither followed, nor removed, nor overwritten."""

import json
import os
import re
import shutil
import socket
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from geoi2i.core.errors import RasterError
from geoi2i.core.evaluation.evaluate import EvaluationOptions, evaluate
from geoi2i.core.evaluation.results import save_csv
from geoi2i.core.files import TEMPORARY, Folder, remove_unfinished
from geoi2i.core.output.completed import CompletedOutputs
from geoi2i.core.output.journal import Journal
from geoi2i.core.writing import replacing, write_whole

sys.path.insert(0, str(Path(__file__).parent))
from places import listing, write

RUN = ("run", "-m", "identity", "-i", "scene.tif", "--device", "cpu", "-o", "out/o.tif")
REPROJECT = ("reproject", "-i", "scene.tif", "--device", "cpu", "--crs", "EPSG:32632", "-o", "out/o.tif")
STOCHASTIC = Path(__file__).parents[1] / "golden" / "package-1" / "plain"
EVALUATE = ("evaluate", "-p", "scene.tif", "-r", "scene.tif", "--metric", "mae")


# --- the folder of parts ------------------------------------------------------------------------------


def filled(folder: Path) -> Path:
    """A folder such as geoi2i makes, of a run of other facts that was stopped."""
    with Journal(folder / "o.tif", {"seed": 1}, True) as journal:
        with journal.folder.replacing("done-0-00000000.json") as file:
            file.write(b'{"files": {}}')
    return folder / "o.tif.geoi2i-parts"


def harm_link(place, parts):
    parts.symlink_to(place.victim)


def harm_relative_link(place, parts):
    parts.symlink_to("../victim")


def harm_pipe(place, parts):
    os.mkfifo(parts)


def harm_file(place, parts):
    parts.write_text("mine")


def harm_foreign(place, parts):
    shutil.copytree(place.victim, parts)


def harm_foreign_beside_marker(place, parts):
    filled(parts.parent)
    (parts / "diary.txt").write_text("mine")


def harm_foreign_in_run(place, parts):
    filled(parts.parent)
    (next(parts.glob("[0-9a-f]*")) / "diary.txt").write_text("mine")


def harm_link_in_run(place, parts):
    filled(parts.parent)
    (next(parts.glob("[0-9a-f]*")) / "strip-0-00000000.tif").symlink_to(place.victim / "diary.txt")


def harm_link_to_a_run(place, parts):
    filled(parts.parent)
    (parts / "0123456789ab").symlink_to(place.victim)


def harm_own_names_without_marker(place, parts):
    filled(parts.parent)
    (parts / "geoi2i").unlink()
    next(parts.glob("*/journal.json")).write_text("{}")  # an older version's would hash to its folder's name


def harm_marker_of_another_version(place, parts):
    filled(parts.parent)
    (parts / "geoi2i").write_text("parts of a raster, layout 77\n")


HARMS = {name.removeprefix("harm_"): harm for name, harm in list(globals().items()) if name.startswith("harm_")}


@pytest.mark.parametrize("more", [(), ("--no-resume",), ("--overwrite",)], ids=["", "no-resume", "overwrite"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_folder_of_parts_that_geoi2i_did_not_make_is_refused_and_left(place, harm, more):
    HARMS[harm](place, place.out / "o.tif.geoi2i-parts")
    before = listing(place.out)
    said = place.run(*(RUN if more else REPROJECT), *more, code=2)
    assert "did not make" in said and "o.tif.geoi2i-parts" in said
    assert listing(place.out).keys() == before.keys()


def test_a_folder_of_parts_of_somebody_else_is_refused(place):
    parts = filled(place.out)
    os.chown(parts, 12345, 12345)
    assert "did not make" in place.run(*RUN, code=2)


def test_a_folder_of_parts_that_a_killed_run_began_is_taken(place):
    (place.out / "o.tif.geoi2i-parts").mkdir()
    (place.out / "o.tif.geoi2i-parts" / "lock").touch()
    place.run(*RUN, code=0)
    assert os.listdir(place.out) == ["o.tif"]


def test_what_others_put_into_a_folder_of_parts_meanwhile_stays(tmp_path):
    with Journal(tmp_path / "o.tif", {}, True) as journal:
        (journal.parts / "diary.txt").write_text("mine")
        (journal.parts / "link").symlink_to("/")
        journal.finished = True
    assert sorted(path.name for path in journal.parts.iterdir()) == ["diary.txt", "link"]


@pytest.mark.parametrize("record", [
    b'{"files": {"../../victim/diary.txt": 1}}', b'{"files": {"/etc/passwd": 1}}', b'{"files": ["strip"]}',
    b'{"files": {"strip-0-00000000.tif": "x"}}', b"[" * 100_000, b"\xff\xfe", b'{"files": {}, "valid": "x"}',
    b'{"files": {"strip-0-00000000.tif": 1}, "valid": 1e999}', b"7"])
def test_a_record_that_says_anything_else_is_no_strip(place, record):
    """And no file that it names is opened."""
    from geoi2i.core.models.package import identity_package
    from geoi2i.core.pipeline.translation import Translation
    from geoi2i.core.run import Compute, Options, plan_translation

    output = place.out / "o.tif"
    job = Translation(plan_translation(place.scene, identity_package(3), Options(), Compute(device="cpu")), output)
    with Journal(output, job.fingerprint, True) as journal:
        for name, content in (("done-0-00000000.json", record), ("strip-0-00000000.tif", b"x")):
            with journal.folder.replacing(name) as file:
                file.write(content)
    place.run(*RUN[:-1], str(output), code=0)
    with rasterio.open(output) as made, rasterio.open(place.scene) as given:
        assert np.array_equal(made.read(), given.read())


# --- the outputs of a batch that are finished ---------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder", "socket", "bad UTF-8", "deep JSON",
                                  "foreign"])
def test_a_record_of_a_batch_that_geoi2i_did_not_write_is_refused_and_left(place, kind):
    place.raster("other.tif")
    record = place.out / ".geoi2i-batch.jsonl"
    make = {"link": lambda: record.symlink_to(place.victim / "diary.txt"),
            "dangling link": lambda: record.symlink_to(place.victim / "new.txt"), "pipe": lambda: os.mkfifo(record),
            "folder": record.mkdir, "socket": lambda: socket.socket(socket.AF_UNIX).bind(os.path.relpath(record)),
            "bad UTF-8": lambda: record.write_bytes(b"\xff" * 99), "deep JSON": lambda: record.write_text("[" * 10**6),
            "foreign": lambda: record.write_text("mine")}
    make[kind]()
    before = listing(place.out)
    for more in ((), ("--no-resume",)):
        said = place.run(*RUN[:-2], "other.tif", "-o", "out/", *more, code=2)
        assert "was not written by this version of geoi2i: remove it" in said
    assert listing(place.out) == before


def test_hostile_lines_in_a_record_of_a_batch_are_left_out(tmp_path):
    record, output = tmp_path / "batch.jsonl", tmp_path / "o.tif"
    output.write_text("x")
    CompletedOutputs(record).add(output, "abc")
    with open(record, "ab") as file:
        file.write(b'[1]\n{"output": [], "run": 1, "size": 1, "time_ns": 1}\n\xff\n' + b"[" * 10**5 + b'\n{"outp')
    assert CompletedOutputs(record).knows(output, "abc") and not CompletedOutputs(record).knows(output, "abd")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_nothing_is_written_through_a_link_that_replaces_the_record_of_a_batch(tmp_path, link):
    completed, victim = CompletedOutputs(tmp_path / "batch.jsonl"), tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "o.tif").write_text("x")
    link(victim, tmp_path / "batch.jsonl")
    with pytest.raises(OSError):
        completed.add(tmp_path / "o.tif", "abc")
    assert victim.read_text() == "mine"


# --- temporary names ----------------------------------------------------------------------------------


def test_names_of_unfinished_files_cannot_be_guessed_and_are_made_anew(tmp_path, monkeypatch):
    seen, opened = [], os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *more, **at: (seen.append((path, flags)),
                                                                      opened(path, flags, *more, **at))[1])
    for _ in range(2):
        with replacing(tmp_path / "a.txt") as file:
            file.write(b"x")
    made = [(path, flags) for path, flags in seen if flags & os.O_CREAT]
    assert len(made) == len({path for path, _ in made}) == 2
    assert all(TEMPORARY.fullmatch(path) and flags & os.O_EXCL and flags & os.O_NOFOLLOW for path, flags in made)


def test_a_file_that_fails_half_way_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(KeyError), replacing(tmp_path / "a.txt") as file:
        file.write(b"new")
        raise KeyError
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", [".e.json.part", "e.json.part", ".o.tif.part", "o.tif.part"])
def test_links_under_names_of_older_versions_are_left(place, name):
    (place.out / name).symlink_to(place.victim / "diary.txt")
    place.run(*EVALUATE, "--json", "out/e.json", code=0)
    place.run(*RUN, code=0)
    assert (place.out / name).is_symlink()


def test_only_unfinished_files_of_ours_are_swept(tmp_path):
    ours, others = ".0123456789abcdef.geoi2i-tmp", [".a.tmp", ".x.tif.host-7.tmp", ".0123.geoi2i-tmp", "a.geoi2i-tmp"]
    for name in (ours, *others):
        (tmp_path / name).touch()
    (tmp_path / ".1123456789abcdef.geoi2i-tmp").symlink_to("/etc/passwd")
    remove_unfinished(Folder.open(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([*others, ".1123456789abcdef.geoi2i-tmp"])


def test_an_output_has_the_permissions_that_the_user_s_mask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


# --- training -----------------------------------------------------------------------------------------

TINY = [part for text in ("data.window_px=16", "data.batch=1",
                          "network.sizes={width=4, blocks=0, style=4, embedding=8}",
                          "settings={steps=2, levels=2, critic_width=4, critic_levels=1, gate_width=4}",
                          "budget.steps=1") for part in ("--set", text)]


def test_training_leaves_what_stands_in_its_folder(place):
    """Files of other programs, also with names of older versions, and what has the name of a package to be."""
    for name in (".editor.tmp", "lock", "notes.txt"):
        (place.out / name).write_text("mine")
    (place.out / "sp-i2i.part").symlink_to(place.victim)
    before = listing(place.out)
    place.run("train", "sp_i2i", "--source", "scene.tif", "--target", "scene.tif", "-o", "out", "--device", "cpu",
              *TINY, code=0)
    after = listing(place.out)
    assert {path: after[path] for path in before if path != str(place.out)} == {
        path: facts for path, facts in before.items() if path != str(place.out)}
    assert {"checkpoint.pt", "log.jsonl", "previews", "sp-i2i"} <= set(os.listdir(place.out))


@pytest.mark.parametrize("name", ["log.jsonl", "previews", "checkpoint.pt", "tensorboard"])
def test_training_writes_through_no_link(place, name):
    (place.out / name).symlink_to(place.victim if "." not in name else place.victim / "diary.txt")
    said = place.run("train", "sp_i2i", "--source", "scene.tif", "--target", "scene.tif", "-o", "out", "--device",
                     "cpu", "--resume", *TINY, code=2)
    assert f"{name} is a link that no training made" in said


# --- outputs that are no files ------------------------------------------------------------------------

WRITING = {
    "-o": lambda path: (*RUN[:-1], path, "--overwrite"),
    "--preview": lambda path: (*RUN, "--preview", path, "--overwrite"),
    "--log": lambda path: (*RUN, "--log", path, "--overwrite"),
    "--uncertainty": lambda path: ("run", "-m", str(STOCHASTIC), "--bands", "1,2", "--force", *RUN[3:], "--samples",
                                   "2", "--uncertainty", path, "--overwrite"),
    "--json": lambda path: (*EVALUATE, "--json", path, "--overwrite"),
    "--csv": lambda path: (*EVALUATE, "--csv", path, "--overwrite"),
    "--report": lambda path: (*EVALUATE, "--report", path + ".html", "--overwrite")}
NO_FILES = {"a link": lambda place, path: path.symlink_to(place.victim / "diary.txt"),
            "a dangling link": lambda place, path: path.symlink_to(place.victim / "new.txt"),
            "a pipe": lambda place, path: os.mkfifo(path), "a folder": lambda place, path: path.mkdir(),
            "a socket": lambda place, path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path)),
            "a device": lambda place, path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))}


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("option", WRITING)
def test_an_output_that_is_no_file_is_refused_and_left(place, option, kind):
    if (option, kind) == ("-o", "a folder"):
        option = "--uncertainty"  # an output folder is one to write into
    path = place.out / ("x.html" if option == "--report" else "x")
    NO_FILES[kind](place, path)
    before = listing(place.out)
    said = place.run(*WRITING[option]("out/x"), code=2)
    assert f"is {kind.replace('dangling ', '')}: name " in said
    assert listing(place.out) == before, said


# --- files beside an output that GDAL reads along with it ---------------------------------------------

SIDECARS = ("o.tif.msk", "o.TIF.MSK", "O.tif.Msk", "o.tif.ovr", "o.tfw", "o.wld", "o.tifw", "o_rpc.txt", "o_RPC.TXT",
            "o.RPB", "o.aux", "o.tif.aux", "o.tif.aux.xml")


def spill(place, name):
    """A file of an earlier raster: a mask that hides all."""
    with rasterio.open(place.out / name, "w", driver="GTiff", count=1, height=60, width=40, dtype="uint8",
                       transform=rasterio.Affine(1, 0, 0, 0, -1, 0)) as out:
        out.write(np.zeros((1, 60, 40), "uint8"))
        out.update_tags(INTERNAL_MASK_FLAGS_1="2")


@pytest.mark.parametrize("more", [(), ("--overwrite",)], ids=["", "overwrite"])
@pytest.mark.parametrize("name", SIDECARS)
def test_a_file_that_would_be_read_along_with_a_new_output_is_refused_and_left(place, name, more):
    spill(place, name)
    before = listing(place.out)
    said = place.run(*RUN, *more, code=2)
    assert f"{name} would be read along with the output: remove it" in said
    assert listing(place.out).keys() == before.keys()


@pytest.mark.parametrize("name", SIDECARS)
def test_with_overwrite_the_files_that_belong_to_the_replaced_raster_go_with_it(place, name):
    shutil.copy(place.scene, place.out / "o.tif")
    spill(place, name)
    (place.out / "o.txt").write_text("mine")
    place.run(*RUN, "--overwrite", code=0)
    assert sorted(os.listdir(place.out)) == ["o.tif", "o.txt"]
    with rasterio.open(place.out / "o.tif") as made, rasterio.open(place.scene) as given:
        assert np.array_equal(made.read(), given.read()) and made.dataset_mask().all()
        assert made.transform == given.transform


def test_an_output_that_gdal_reads_otherwise_gets_no_name(place, monkeypatch):
    """Here because of a sidecar that says another CRS."""
    from geoi2i.core.models.package import identity_package
    from geoi2i.core.output import execute as delivery
    from geoi2i.core.run import Compute, translate_raster

    wrong = '<PAMDataset><SRS dataAxisToSRSAxisMapping="1,2">EPSG:32755</SRS></PAMDataset>'
    monkeypatch.setattr(delivery, "sidecar", lambda spec: wrong)
    with pytest.raises(RasterError, match=r"does not read back as it was written \(the CRS\)"):
        translate_raster(place.scene, place.out / "o.tif", identity_package(3), compute=Compute(device="cpu"))
    assert not (place.out / "o.tif").exists() and not (place.out / "o.tif.aux.xml").exists()


# --- tables -------------------------------------------------------------------------------------------


def formulas(text: str) -> list[str]:
    """What a spreadsheet takes for a formula in a file, whichever separator it is set to."""
    cells = [cell for line in re.split(r"[\r\n]", text) for separator in ",;\t" for cell in line.split(separator)]
    return [cell for cell in cells if re.match(r'"?[=+\-@\t\r]', cell) and not re.fullmatch(r"-?[\d.e+-]+|-?inf", cell)]


@pytest.mark.parametrize("text", ["=cmd()", "+1+cmd()", "-1+cmd()", "@sum(1)", "\t=1", "a;=1", "a,=1", "a\r=1"])
def test_no_cell_of_a_table_is_a_formula(tmp_path, monkeypatch, text):
    """Names of files and units come from others."""
    monkeypatch.chdir(tmp_path)
    name = f"{text}.tif" if text.isprintable() else "a.tif"
    pixels = np.random.default_rng(0).integers(1, 200, (1, 40, 40), "uint8")
    path = write(tmp_path / name, pixels, units=[text])
    found = evaluate(name, reference=path, options=EvaluationOptions(metrics=("mae", "psnr")))
    table = save_csv([found], tmp_path / "t.csv").read_text()
    assert formulas(table) == [] and formulas(f"a,{text},b") and "mae" in table


def test_a_journal_is_read_as_json_only(tmp_path):
    with Journal(tmp_path / "o.tif", {"a": [1]}, True) as journal:
        assert json.loads((journal.folder.path / "journal.json").read_text()) == {"a": [1]}


def test_a_finished_output_of_a_batch_is_made_again_where_a_sidecar_has_come_to_stand_beside_it(place):
    place.raster("other.tif")
    batch = (*RUN[:-2], "missing.tif", "-o", "out/")
    place.run(*batch, code=3)
    spill(place, "scene.tif.msk")
    said = place.run(*batch, code=2)
    assert "was finished before" not in said and "exists already" in said
    place.run(*batch, "--overwrite", code=3)
    assert not (place.out / "scene.tif.msk").exists()
    assert "was finished before" in place.run(*batch, code=3)
