"""Laws of model packages: they come back bit for bit, and nothing damaged, foreign or unsafe is accepted."""

import hashlib
import json
import pickle
import struct

import pytest
import torch
from geoi2i.core.errors import ModelError
from geoi2i.core.inference.steps import schrodinger_bridge_table
from geoi2i.core.models.manifest import BandSpec, Manifest, NetworkSpec
from geoi2i.core.models.package import ModelPackage, build_network, identity_package, save_package


def edit(package, **changes):
    """The package with other values in its manifest, as a user with an editor would leave it."""
    path = package.folder / "manifest.json"
    content = json.loads(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = content
        for parent in parents:
            place = place[int(parent) if isinstance(place, list) else parent]
        place[last] = value
    path.write_text(json.dumps(content))
    return package.folder


def refused(folder, sentence):
    with pytest.raises(ModelError, match=sentence) as error:
        ModelPackage.load(folder).network()
    assert "\n" not in str(error.value) and str(error.value).endswith((".", "?"))


def test_a_package_comes_back_bit_for_bit(make_network, make_package):
    network = make_network()
    package = make_package(network=network)
    loaded = ModelPackage.load(package.folder)
    assert loaded.manifest == package.manifest and loaded.manifest.table == schrodinger_bridge_table(5, tau=0.1)
    found = loaded.network().state_dict()
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(value, found[name]) for name, value in network.state_dict().items())


def test_a_package_is_two_files(package):
    assert sorted(p.name for p in package.folder.iterdir()) == ["manifest.json", "weights.safetensors"]
    assert sorted(p.name for p in package.folder.parent.iterdir()) == ["tiny"], "no temporary folder is left"
    digest = hashlib.sha256((package.folder / "weights.safetensors").read_bytes()).hexdigest()
    assert package.manifest.weights_sha256 == digest


def test_two_exports_of_one_network_are_equal(make_network, make_package):
    a, b = (make_package(name, network=make_network()).folder for name in ("a", "b"))
    assert all((a / p.name).read_bytes() == (b / p.name).read_bytes() for p in a.iterdir())


def test_an_existing_folder_is_never_replaced(package, make_network):
    with pytest.raises(ModelError, match="exists already"):
        save_package(package.folder, package.manifest, make_network())


@pytest.mark.parametrize("place", [8, 3000, -1])
def test_an_altered_byte_is_refused(package, place):
    path = package.folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    refused(package.folder, "altered")


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors"])
@pytest.mark.parametrize("renamed", [True, False])
def test_a_missing_or_renamed_file_is_named(package, name, renamed):
    path = package.folder / name
    path.rename(path.with_name("other.txt")) if renamed else path.unlink()
    refused(package.folder, f"has no {name}.*et the package again")


def test_a_cut_off_file_is_refused(package):
    path = package.folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(package.folder, "cut off")
    path.write_bytes(b"\x01\x02")
    refused(package.folder, "not a safetensors file")


def test_a_folder_that_is_not_there_or_not_a_model_is_refused(tmp_path):
    refused(tmp_path / "none", "is not a model folder")
    refused(tmp_path, "has no manifest.json")


def torch_file(path):
    torch.save({"a": torch.ones(2)}, path)


@pytest.mark.parametrize("name, write", [
    ("weights.pt", lambda path: path.write_text("harmless")),
    ("deep/optimiser.CKPT", lambda path: path.write_text("harmless")),
    ("notes.txt", lambda path: path.write_bytes(pickle.dumps({"a": 1}))),
    ("picture", lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=2))),
    ("README.md", torch_file),
    ("legacy.txt", lambda path: torch.save([1], path, _use_new_zipfile_serialization=False)),
])
def test_a_pickle_in_the_folder_is_refused(package, name, write):
    path = package.folder / name
    path.parent.mkdir(exist_ok=True)
    write(path)
    refused(package.folder, "can carry code")


@pytest.mark.parametrize("write", [
    torch_file, lambda path: path.write_bytes(pickle.dumps(list(range(9999)))), lambda path: path.write_text("x" * 99)])
def test_another_file_under_the_name_of_the_weights_is_refused(package, write):
    path = package.folder / "weights.safetensors"
    write(path)
    refused(edit(package, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest()), "safetensors")


@pytest.mark.parametrize("length", [0x10080, 0x10580, 0x14B50])
def test_weights_whose_length_looks_like_a_magic_number_are_accepted(package, length):
    """A safetensors file begins with its header's length: 128, 384, .. begin like a pickle, 0x4b50 like a zip."""
    path = package.folder / "weights.safetensors"
    content = path.read_bytes()
    old = struct.unpack("<Q", content[:8])[0]
    path.write_bytes(struct.pack("<Q", length) + content[8 : 8 + old].ljust(length) + content[8 + old :])
    folder = edit(package, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert ModelPackage.load(folder).verify() <= 1e-4


def test_a_newer_format_asks_for_an_update(package):
    refused(edit(package, format_version=2, further="unknown to us"), "is of format 2.*update geoi2i")


@pytest.mark.parametrize("changes, near", [
    ({"tile_pixels": 3}, "'tile_px'"), ({"margin": 3}, "'margin_px'"), ({"table__step": []}, "'steps'"),
    ({"table__steps__0__pul": 1}, "'pull'"), ({"normalise_in__minimun": [0]}, "'minimum'"),
    ({"bands_in__0__nam": "x"}, "'name'")])
def test_an_unknown_key_is_named_with_the_nearest_valid_one(package, changes, near):
    key = next(iter(changes)).split("__")[-1]
    refused(edit(package, **changes), f"key '.*{key}' is unknown; did you mean {near}")


@pytest.mark.parametrize("changes, sentence", [
    ({"network__name": "transformer"}, "'transformer' is unknown here.*resnet"),
    ({"network__sizes__width": 3}, "'width' is wrong"),
    ({"network__sizes__widht": 8}, "did you mean 'width'"),
    ({"network__sizes__width": 12}, "does not fit the network"),
    ({"network__sizes__blocks": 2}, "does not fit the network"),
    ({"normalise_in__minimum": [0, 0]}, "2 bands where 3 are declared|minimum"),
    ({"network": None}, "calls a network but none is named"),
    ({"name": "../../etc"}, "'name' is wrong"),
    ({"multiple_of": 0}, "'multiple_of' is wrong"),
    ({"weights_sha256": None}, "altered"),
    ({"licence": 3}, "'licence' is wrong"),
    ({"table__steps": []}, "table.steps"),
])
def test_a_wrong_value_is_named(package, changes, sentence):
    refused(edit(package, **changes), sentence)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "\udcff"])
def test_a_manifest_that_is_no_manifest_is_refused(package, text):
    (package.folder / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(package.folder, "manifest.json")


def test_bands_that_the_network_does_not_have_are_refused(make_network, make_package):
    """Else the run would fail inside the network, with a message about tensors."""
    package = make_package(network=make_network(bands=3))
    spec = {"name": "b", "minimum": 0, "maximum": 1}
    refused(edit(package, bands_in=[spec] * 4, normalise_in={"kind": "none"}), "bands_in is 3 where .* make 4")


def test_verify_reproduces_the_probe(package):
    image, output = package.probe()
    assert image.shape == (1, 3, 16, 16) and output.shape == (1, 3, 16, 16)
    assert image.std() > 0.1 and output.std() > 0.1
    assert package.verify() <= 1e-4


def test_verify_notices_another_network(package, make_network, tmp_path):
    other = save_package(tmp_path / "other", package.manifest, make_network(seed=1))
    from safetensors.torch import load_file, save_file

    tensors = load_file(package.folder / "weights.safetensors")
    probe = {k: v for k, v in load_file(other.folder / "weights.safetensors").items() if k.startswith("probe")}
    path = package.folder / "weights.safetensors"
    save_file({k: v.clone() for k, v in (tensors | probe).items()}, path)
    folder = edit(package, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ModelError, match="does not reproduce its probe"):
        ModelPackage.load(folder).verify()


def test_a_package_without_a_probe_cannot_be_verified():
    with pytest.raises(ModelError, match="has no probe"):
        identity_package(3).verify()


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-5), ("bf16", 0.2), ("fp16", 0.02)])
def test_the_level_survives_every_precision(package, precision, tolerance):
    """Only the network beside the affine skip path may lose digits; fp32 weights of that path stay as they are."""
    exact, translator = package.network(), package.translator("cpu", precision)
    assert torch.equal(translator.network.level.weight, exact.level.weight)
    x, z, t = torch.rand(1, 3, 32, 32), torch.ones(1, 4), torch.zeros(1)
    with torch.inference_mode():
        found, expected = translator.network(x, t, z), exact(x, t, z)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < tolerance * expected.std()
    assert (found - expected).mean().abs() < 0.02 * expected.std()


def test_a_model_that_attends_keeps_its_tile():
    manifest = identity_package(1).manifest.model_copy(update={"attends": True, "tile_px": 96})
    assert manifest.tiling().fixed and manifest.tiling(96).tile == 96
    with pytest.raises(ModelError, match="--tile 64 would change the result"):
        manifest.tiling(64)


@pytest.mark.parametrize("tile", [0, -5])
def test_a_tile_of_nothing_is_refused(tile):
    from geoi2i.core.errors import RasterError

    with pytest.raises(RasterError, match="--tile"):
        identity_package(1).manifest.tiling(tile)


def test_a_manifest_is_the_same_after_json():
    specs = (BandSpec(name="r", minimum=0, maximum=0.1, unit="µm"),)
    manifest = Manifest(name="x", title="é", licence="MIT", bands_in=specs, bands_out=specs,
                        table=schrodinger_bridge_table(7, 0.03), normalise_in={"kind": "percentile", "low": 0.1},
                        normalise_out={"kind": "mean_std", "mean": (0.1,), "std": (1 / 3,)},
                        network=NetworkSpec(name="resnet", sizes={"bands_in": 1, "bands_out": 1}))
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_fresh_networks_come_from_their_sizes_alone():
    network = build_network(NetworkSpec(name="resnet", sizes={"bands_in": 5, "bands_out": 2, "width": 4, "blocks": 1,
                                                              "style": 3, "embedding": 8}))
    assert network(torch.zeros(1, 5, 8, 8), torch.zeros(1), torch.ones(1, 3)).shape == (1, 2, 8, 8)
