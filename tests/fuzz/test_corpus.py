"""Law of hostile inputs: done, or refused in one sentence; in little time and memory; nothing else is touched."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def fuzz(*arguments):
    return subprocess.run([sys.executable, str(HERE / "fuzz.py"), "--no-save", "--workers", "1", *map(str, arguments)],
                          capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("what", [("--replay", HERE / "corpus"), ("--cases", 300, "--seed", 0)],
                         ids=["what was found before", "300 new ones"])
def test_hostile_inputs_do_no_harm(what):
    done = fuzz(*what)
    assert done.returncode == 0 and "finding:" not in done.stdout, done.stdout + done.stderr


BREACHES = {
    "a traceback": ("raise KeyError('a')", "KeyError in no file of ours"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "an end without a sentence": ("import sys; sys.exit(2)", "no sentence at the end"),
    "another exit code": ("import sys; sys.exit(7)", "exit code 7"),
    "two sentences": ("import sys; print('Error: a\\nb', file=sys.stderr); sys.exit(2)", "more than a sentence"),
    "a hidden character": ("import sys; print('Error: \\x1b[0m.', file=sys.stderr); sys.exit(2)", "hidden characters"),
    "endless work": ("import time; time.sleep(60)", "slow"),
    "too much memory": ("import numpy; numpy.ones(1 << 27)", "memory"),
    "a file beside the output": ("open('here', 'w')", "wrote beside its output: /cwd/here"),
    "a file at home": ("import os; open(os.path.expanduser('~/a'), 'w')", "wrote beside its output: /home/a"),
    "a file that was not named": ("open('../out/more', 'w')", "left more in the output folder"),
    "an output after a failure": (
        "import sys; open('../out/o.tif', 'w'); print('Error: No.'); sys.exit(2)", "left o.tif"),
    "a warning": ("import warnings; warnings.warn('a')", "UserWarning in"),
    "an exception in a thread": (
        "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", "Exception in thread"),
}


@pytest.fixture(scope="module")
def worker():
    """A worker whose command line is replaced by a few lines of Python."""
    sys.path.insert(0, str(HERE))
    import watchdog

    usual = watchdog.LIMIT_S, watchdog.LIMIT_BYTES
    watchdog.LIMIT_S, watchdog.LIMIT_BYTES = 4.0, 256 << 20
    made = watchdog.Worker()
    yield made
    made.close()
    watchdog.LIMIT_S, watchdog.LIMIT_BYTES = usual
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def seeds(worker):
    from seeds import all_seeds

    return all_seeds()


@pytest.mark.parametrize("name", BREACHES)
def test_every_breach_is_noticed(worker, tmp_path, name):
    program, words = BREACHES[name]
    (tmp_path / "a.tif").write_bytes(b"")
    entry = {"kind": "tiff", "seed": "plain", "victim": "a.tif", "rehash": False,
             "arguments": ["python", program, "@OUT@/o.tif"]}
    answer = worker.run({"entry": entry, "path": str(tmp_path / "a.tif")})
    assert answer["outcome"] == "finding" and words in answer["was"], answer


COPY = "import shutil; shutil.copyfile('../in/a.tif', '../out/o.tif')"
FOREIGN = {
    "a victim's file, changed": (["file", "out/notes.txt", "tiff/plain"], "open('../victim/keep.txt', 'w')",
                                 "wrote beside its output: /victim/keep.txt"),
    "a victim's file, by a link": (["link", "out/o.tif", "@ROOT@/victim/new"], COPY,
                                   "wrote beside its output: /victim/new"),
    "a victim's file, as it was": (["link", "out/more", "@ROOT@/victim"],
                                   "p = '../victim/e.json'; t = open(p).read(); open(p, 'w').write(t)",
                                   "wrote beside its output: /victim/e.json"),
    "a foreign file, removed": (["file", "out/notes.txt", "tiff/plain"], "import os; os.remove('../out/notes.txt')",
                                "removed notes.txt, a file that stood there before"),
    "a foreign link, replaced": (["link", "out/o.tif", "none"],
                                 "import os; open('../out/n', 'w'); os.replace('../out/n', '../out/o.tif')",
                                 "changed o.tif, a link that stood there before"),
    "a foreign file among own parts": (["file", "out/o.tif.geoi2i-parts/notes.txt", "tiff/plain"],
                                       "import shutil; shutil.rmtree('../out/o.tif.geoi2i-parts')",
                                       "removed what stood in o.tif.geoi2i-parts/"),
    "parts that were not there": (["folder", "out/more"], "import os; os.mkdir('../out/o.tif.geoi2i-parts')",
                                  "left o.tif.geoi2i-parts in the output folder"),
    "strips that are whole": (["folder", "out/more"], "import os; p = '../out/o.tif.geoi2i-parts/0123456789ab';"
                              "os.makedirs(p); open(p + '/done-0-00000000.json', 'w'); import sys;"
                              "print('Error: a.tif is damaged: copy it again.', file=sys.stderr); sys.exit(2)", None),
    "another mask": (["file", "out/o.tif.msk", "sidecar/msk"], COPY, "o.tif is read with another mask than alone"),
    "another overview": (["file", "out/o.tif.OVR", "sidecar/ovr"], COPY,
                         "o.tif is read with another overview than alone"),
    "nothing": (["file", "out/o.tif.geoi2i-parts/lock", "tiff/plain"],
                f"{COPY}; shutil.rmtree('../out/o.tif.geoi2i-parts')", None),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_stood_in_a_folder_is_guarded(worker, seeds, tmp_path, name):
    step, program, words = FOREIGN[name]
    (tmp_path / "a.tif").write_bytes(seeds["tiff"]["deflate"].files["a.tif"])
    entry = {"kind": "layout", "seed": "deflate", "victim": "a.tif", "rehash": False, "layout": [step],
             "arguments": ["python", program, "@OUT@/o.tif"]}
    answer = worker.run({"entry": entry, "path": str(tmp_path / "a.tif")})
    assert (answer["was"] or "").startswith(words or "") and (answer["outcome"] != "finding") == (words is None), answer


def test_a_layout_is_kept_as_it_is(seeds):
    """Through the index of a corpus, and from one name always the same."""
    from cases import make_case
    from layouts import as_json, from_json

    made = [make_case("layout", f"0/{number}", seeds) for number in range(50)]
    assert made == [make_case("layout", f"0/{number}", seeds) for number in range(50)]
    assert all(from_json(json.loads(json.dumps(as_json(case.layout)))) == case.layout for case in made)
    assert {what for case in made for what, *_ in case.layout} == {
        "file", "link", "folder", "fifo", "socket", "begun"}
