"""Laws of the files in a model folder from anybody: held against the network before memory is taken for them."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from geoi2i.core.errors import ModelError
from geoi2i.core.inference.steps import Step, StepTable
from geoi2i.core.models.manifest import NetworkSpec
from geoi2i.core.models.package import ModelPackage, build_network, save_package


@pytest.fixture(autouse=True)
def at_once():
    """What waits for a pipe, or reads a device without end, fails after a minute."""

    def late(*_):
        raise AssertionError("still busy after a minute")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def refused(folder, sentence, call=ModelPackage.load):
    with pytest.raises(ModelError, match=sentence) as error:
        call(folder)
    assert "\n" not in str(error.value) and str(error.value).endswith((".", "?")) and len(str(error.value)) < 1000


def edit(package, *path, value):
    """The package with another value at a place of its manifest."""
    file = package.folder / "manifest.json"
    content = place = json.loads(file.read_text())
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(content))
    return package.folder


def reheaded(package, change, data=b""):
    """The package with another header before its weights, `data` after them, and the hash of that."""
    path = package.folder / "weights.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    text = change(header)
    text = (text if isinstance(text, str) else json.dumps(header)).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :] + data)
    return edit(package, "weights_sha256", value=hashlib.sha256(path.read_bytes()).hexdigest())


def last(header):
    return max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][1])


def swapped(header):
    a, b = sorted(name for name in header if name.startswith("blocks") and name.endswith("conv.weight"))[:1] * 2
    b = next(name for name in header if name != a and header[name]["shape"] == header[a]["shape"])
    header[b]["data_offsets"] = header[a]["data_offsets"]


def test_a_rewritten_header_is_accepted(package):
    assert ModelPackage.load(reheaded(package, lambda h: h.update(__metadata__={"format": "pt"}))).verify() <= 1e-4


@pytest.mark.parametrize("change, sentence", [
    (lambda h: h.pop("stem.bias"), "does not fit the network .*'stem.bias'"),
    (lambda h: h.update({"stem.more": dict(h["stem.bias"])}), "does not fit the network .*'stem.more'"),
    (lambda h: h["stem.bias"].update(dtype="F16"), "does not fit the network .*'stem.bias'"),
    (lambda h: h["stem.bias"].update(dtype="I32"), "does not fit the network .*'stem.bias'"),
    (lambda h: h["stem.weight"]["shape"].reverse(), "does not fit the network .*'stem.weight'"),
    (lambda h: h["stem.bias"].update(shape=[2**40]), "does not fit the network .*'stem.bias'"),
    (swapped, "overlap"),
    (lambda h: h[last(h)].update(data_offsets=[n + 4 for n in h[last(h)]["data_offsets"]]), "overlap"),
    (lambda h: h[last(h)].update(data_offsets=[n + 2**62 for n in h[last(h)]["data_offsets"]]), "overlap"),
    (lambda h: h["stem.bias"].update(data_offsets=[-1, 2**62]), "overlap"),
    (lambda h: h["stem.bias"].update(data_offsets=[0, 1, 2]), "not a safetensors file"),
    (lambda h: h["stem.bias"].update(data_offsets=[0.0, 32.0]), "not a safetensors file"),
    (lambda h: h["stem.bias"].update(shape=[True]), "not a safetensors file"),
    (lambda h: h["stem.bias"].update(shape="8"), "not a safetensors file"),
    (lambda h: h["stem.bias"].update(dtype=["F32"]), "not a safetensors file"),
    (lambda h: h.update({"stem.bias": 3}), "not a safetensors file"),
    (lambda h: "[" * 100_000, "nested deeper"),
    (lambda h: "[]", "not a safetensors file"),
    (lambda h: json.dumps(h)[:-1] + ', "stem.bias": ' + json.dumps(h["stem.bias"]) + "}", "'stem.bias' stands .*twice"),
    (lambda h: json.dumps(h) + " " * (1 << 20), "not a safetensors file"),
])
def test_a_header_that_is_not_the_networks_is_refused(package, change, sentence):
    refused(reheaded(package, change), sentence)


def test_bytes_after_the_last_tensor_are_refused(package):
    refused(reheaded(package, lambda h: None, b"more"), "end elsewhere than the file")


@pytest.mark.parametrize("change", [
    lambda h: h.pop("probe.input"), lambda h: h.pop("probe.output"),
    *(lambda h, shape=shape: [h[f"probe.{name}"].update(shape=shape) for name in ("input", "output")]
      for shape in ([1, 3, 2**20, 2**20], [1, 3, 18, 16], [1, 1, 16, 48], [3, 16, 16], [2, 3, 16, 8], [1, 3, 0, 16]))])
def test_a_probe_is_two_small_images_that_the_network_can_run_on(package, change):
    refused(reheaded(package, change), "The probe in ")


PROGRAM = """
import resource, sys
from geoi2i.core.errors import ModelError
from geoi2i.core.models.package import ModelPackage
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    ModelPackage.load(sys.argv[1]).verify()
except ModelError as error:
    print(error, file=sys.stderr)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("claim, change", [
    ("a tensor of a terabyte", lambda h: h["stem.bias"].update(shape=[2**38])),
    ("a probe of a terabyte", lambda h: h["probe.input"].update(shape=[1, 3, 2**19, 2**18])),
    ("another tensor of a terabyte", lambda h: h.update(more={"dtype": "F32", "shape": [2**38], "data_offsets": [
        h[last(h)]["data_offsets"][1], h[last(h)]["data_offsets"][1] + 2**40]}))])
def test_a_claim_of_a_terabyte_takes_no_memory(package, claim, change):
    """The file is as long as it says, with a hole in it: neither hashing nor mapping it comes to an end."""
    folder = reheaded(package, change)
    path = folder / "weights.safetensors"
    os.truncate(path, path.stat().st_size + 2**40)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True)
    assert "altered" in done.stderr and int(done.stdout) < 64 << 10, (claim, done.stdout, done.stderr)


@pytest.mark.parametrize("sizes", [
    {"blocks": 10**9}, {"width": 10**9}, {"levels": 60}, {"embedding": 10**12}, {"style": 2**40}, {"blocks": -1},
    {"blocks": True + 0.5}, {"more": 1}, {f"size{k}": 1 for k in range(1000)}])
def test_sizes_of_a_network_have_bounds(package, sizes):
    place = json.loads((package.folder / "manifest.json").read_text())["network"]["sizes"]
    refused(edit(package, "network", "sizes", value=place | sizes), "is wrong|is unknown")


def test_a_network_within_the_bounds_but_beyond_any_file_is_refused(package):
    largest = {"bands_in": 3, "bands_out": 3, "width": 512, "blocks": 64, "levels": 4, "style": 1024, "embedding": 1024}
    edit(package, "multiple_of", value=16)
    refused(edit(package, "network", "sizes", value=largest), "weights of 31[0-9] GB, and at most 17.2 GB")


@pytest.mark.parametrize("path, value, sentence", [
    (["tile_px"], 65536, "would take .* GB.*lower its tile_px"),
    (["tile_px"], 2**40, "'tile_px' is wrong"),
    (["multiple_of"], 2, "multiple_of must be a multiple of 4"),
    (["multiple_of"], 6, "multiple_of must be a multiple of 4"),
    (["margin_px"], 0, "margin_px at least 4"),
    (["margin_px"], 30, "more than the 29 px that its network sees"),
    (["tile_px"], 8, "'tile_px' is wrong"),
    (["margin_px"], 10**6, "'margin_px' is wrong"),
    (["pixel_size_m"], 1e-300, "'pixel_size_m' is wrong"),
    (["pixel_size_factor"], 1e300, "'pixel_size_factor' is wrong"),
    (["table", "steps"], [{}] * 1001, "'table.steps' is wrong"),
    (["table", "steps", 0, "pull"], 1e300, "'table.steps.0.pull' is wrong"),
    (["table", "steps", 0, "noise"], -1, "'table.steps.0.noise' is wrong"),
    (["table", "steps", 0, "memory"], 0.5, "the first step remembers"),
    (["table", "clip"], [1, -1], "lower end of clip"),
    (["bands_in"], [{"name": "b", "minimum": 0, "maximum": 1}] * 65_536, "'bands_in' is wrong"),
    (["bands_in", 0, "minimum"], 1e200, "'bands_in.0.minimum' is wrong"),
    (["normalise_in"], {"kind": "mean_std", "mean": [0] * 3, "std": [1, 0, 1]}, "std.1' is wrong"),
    (["normalise_in"], {"kind": "mean_std", "mean": [0] * 3, "std": [1, 1]}, "of one length"),
    (["normalise_in"], {"kind": "range", "minimum": [1] * 3, "maximum": [0] * 3}, "no minimum above"),
    (["normalise_in"], {"kind": "percentile", "low": 9, "high": 8}, "low must be below high"),
    (["title"], "x" * 5000, "'title' is wrong"),
    (["title"], "a\x1b]0;b", r"U\+001B"),
    (["title"], "\ud800", r"U\+D800"),
    (["recipe", "any"], "a\u202eb", r"U\+202E"),
    (["recipe", "any\x07"], 1, r"U\+0007"),
    (["recipe", "any"], float("nan"), "not a number"),
    (["metrics", "any"], float("inf"), "not a number"),
    (["metrics", "any"], 10**100, "64 bits"),
    (["name"], "x" * 1_000_000, "'name' is wrong"),
    (["x" * 1_000_000], 0, "is unknown"),
])
def test_what_a_manifest_says_has_bounds(package, path, value, sentence):
    refused(edit(package, *path, value=value), sentence)


def deep(levels):
    return '{"recipe": ' + '{"a": ' * levels + "1" + "}" * levels + "}"


@pytest.mark.parametrize("text, sentence", [
    ('{"name": "a", "name": "b"}', "'name' stands there twice"), (deep(100), "nested deeper"),
    (deep(100_000), "nested deeper"), ('{"metrics": {"a": 1e999}}', "not a number"),
    ('{"format_version": ' + "9" * 5000 + "}", "cannot be read as JSON"), ("\xff", "manifest.json cannot be read")])
def test_a_manifest_is_strict_json(package, text, sentence):
    (package.folder / "manifest.json").write_bytes(text.encode("latin-1"))
    refused(package.folder, sentence)


@pytest.mark.parametrize("name, sentence", [("manifest.json", "manifest.json cannot be read"),
                                            ("weights.safetensors", "has no weights.safetensors.*not a plain file")])
@pytest.mark.parametrize("make", [
    os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to(path.name),
    lambda path: path.symlink_to("/none")], ids=["pipe", "folder", "device", "loop", "link to nothing"])
def test_what_is_no_plain_file_is_not_waited_for(package, name, sentence, make):
    (package.folder / name).unlink()
    make(package.folder / name)
    refused(package.folder, sentence)


def test_a_manifest_of_gigabytes_is_not_read(package):
    os.truncate(package.folder / "manifest.json", 2 << 30)
    refused(package.folder, "longer than 4194304 bytes")


def test_a_file_may_be_a_link(package, tmp_path):
    """Installers that link packages out of a cache make every file one."""
    for name in ("manifest.json", "weights.safetensors"):
        (package.folder / name).rename(tmp_path / name)
        (package.folder / name).symlink_to(tmp_path / name)
    assert ModelPackage.load(package.folder).verify() <= 1e-4


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"swordfish\n" * 100, b"\xff\xfe\x12" * 100], ids=["text", "bytes"])
def test_of_a_file_that_is_no_part_of_a_model_nothing_is_shown(package, tmp_path, name, content):
    """A link may lead to anything: not even the first eight bytes appear, taken for the length of a header."""
    (tmp_path / "secret").write_bytes(content)
    (package.folder / name).unlink()
    (package.folder / name).symlink_to(tmp_path / "secret")
    refused(package.folder, "cannot be read as JSON|not a safetensors file")
    with pytest.raises(ModelError) as error:
        ModelPackage.load(package.folder)
    shown = "swordfish", "0xff", str(int.from_bytes(content[:8], "little"))
    assert not any(part in str(error.value) for part in shown)


@pytest.mark.slow
def test_a_folder_of_too_many_files_is_refused(package):
    for k in range(10_001):
        (package.folder / f"{k}").touch()
    refused(package.folder, "more than 10000 files")


@pytest.mark.slow
def test_folders_may_lie_deeper_than_python_recurses(package):
    inside = [f"{package.folder}{'/d' * depth}" for depth in range(1, 1200)]
    for path in inside:
        os.mkdir(path)
    assert ModelPackage.load(package.folder).manifest.name == "tiny"
    for path in reversed(inside):
        os.rmdir(path)


def test_a_name_that_no_file_system_takes_is_refused():
    from geoi2i.core.models.package import find_model

    for name in ("x" * 300, "x" * 5000, "a/" + "x" * 300, "a\0b", "/a\0b"):
        refused(name, "No model is named|is not a model folder", find_model)


def test_other_counts_of_bands_go_with_a_table_that_does_not_mix_them(make_package, tmp_path):
    package = make_package(steps=1)
    network = build_network(NetworkSpec(name="resnet", sizes=dict(dict(package.manifest.network.sizes), bands_out=1)))
    single = {"bands_out": package.manifest.bands_out[:1], "normalise_out": {"kind": "none"},
              "network": NetworkSpec(name="resnet", sizes=dict(network.sizes))}
    made = type(package.manifest)(**dict(package.manifest) | single)
    assert save_package(tmp_path / "one", made, network).verify() <= 1e-4
    for table in (StepTable(steps=(Step(c_skip=1),)), StepTable(steps=(Step(), Step())),
                  StepTable(steps=(Step(c_out=0, c_source=1),)), StepTable(steps=(Step(keep=1),))):
        with pytest.raises(ValueError, match="mixes 3 bands in with 1 bands out"):
            type(made)(**dict(made) | {"table": table})


def test_every_window_that_a_checked_manifest_allows_can_be_run(make_package, make_network):
    """The smallest raster on the smallest margin."""
    for levels in range(5):
        network = make_network(levels=levels)
        package = make_package(f"m{levels}", network=network, margin_px=network.smallest_px // 2)
        translator = ModelPackage.load(package.folder).translator()
        side = translator.tiling.multiple + 2 * translator.tiling.lattice_margin
        with torch.inference_mode():
            assert translator.network(torch.zeros(1, 3, side, side), torch.zeros(1), torch.ones(1, 4)).isfinite().all()
