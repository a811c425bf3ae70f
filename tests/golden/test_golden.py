"""What geoi2i makes is what it made when the golden results were made, whatever machine it runs on.

A result that is meant to change is made anew with `make golden`, and the commit says why.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

sys.path.insert(0, str(Path(__file__).parent))
from geoi2i.cli.main import main
from geoi2i.core.models.package import ModelPackage
from geoi2i.core.networks.latent import LatentUNet, LatentUNetSizes
from make import COMMANDS, PACKAGE_COMMANDS, PACKAGES, RESULTS, differences, files, make_inputs, run, run_package


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    make_inputs(folder)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_makes_the_golden_result(name, inputs):
    assert differences(run(COMMANDS[name], inputs), RESULTS / name) == []


def test_every_golden_result_has_its_command():
    assert {path.name for path in RESULTS.iterdir()} == set(COMMANDS)
    assert all(files(RESULTS / name) for name in COMMANDS)


@pytest.mark.parametrize("share, words", [(3e-6, None), (3e-5, "band 2: off by up to")])
def test_a_pixel_that_is_off_by_more_than_the_tolerance_is_seen(share, words, tmp_path):
    made = shutil.copytree(RESULTS / "bridge", tmp_path / "made")
    with rasterio.open(made / "o.tif", "r+", IGNORE_COG_LAYOUT_BREAK=True) as data:
        band = data.read(2)
        band[20, 20] += share * (np.nanmax(band) - np.nanmin(band))
        data.write(band, 2)
    found = differences(made, RESULTS / "bridge")
    assert found == [] if words is None else len(found) == 1 and words in found[0]


@pytest.mark.parametrize("change, words", [
    (lambda facts: facts["comparisons"][0]["scores"][0].update(value=1.0), "/comparisons/0/scores/0/value was"),
    (lambda facts: facts["comparisons"][0]["scores"].pop(), "/comparisons/0/scores was"),
    (lambda facts: facts["comparisons"][0]["scores"][0].update(n_valid=7), "/comparisons/0/scores/0/n_valid was")])
def test_a_figure_that_is_another_is_seen(change, words, tmp_path):
    made = shutil.copytree(RESULTS / "evaluate-reference", tmp_path / "made")
    facts = json.loads((made / "e.json").read_text())
    change(facts)
    (made / "e.json").write_text(json.dumps(facts))
    found = differences(made, RESULTS / "evaluate-reference")
    assert len(found) == 1 and words in found[0]


@pytest.mark.parametrize("name", PACKAGE_COMMANDS)
def test_a_package_of_format_1_works_for_ever(name, inputs, capsys):
    """People have such packages, made by themselves or got from others, and nobody will convert them. So these must
    load unchanged with every later version, say of themselves what they said, and translate as they did: where this
    test fails, the code has to change. Never make the packages or their results anew, and alter nothing in them.
    """
    package = ModelPackage.load(PACKAGES / name)
    manifest = json.loads((PACKAGES / name / "manifest.json").read_text())
    assert package.manifest.name == manifest["name"] and package.verify() <= 1e-4
    with pytest.raises(SystemExit, match="0"):
        main(["models", "show", str(PACKAGES / name)])
    said = capsys.readouterr().out
    for fact in ("title", "licence", "training_data", "weights_sha256", "body", "input_model"):
        assert (manifest[fact] or "") in said
    assert differences(run_package(name, inputs), PACKAGES / "results" / name) == []


def test_the_weights_of_a_latent_diffusion_model_keep_their_names():
    """The golden packages have no such network, which would be their largest part: this holds the names and shapes of
    its tensors, some of which diffusers chooses. Packages of format 1 need them for ever."""
    with torch.device("meta"):
        network = LatentUNet(LatentUNetSizes(
            bands_in=8, bands_out=5, width=320, levels=3, layers=2, widest=4, head_px=64, heads=0, linear=1, groups=32,
            context=1024, words=77))
    tensors = "\n".join(f"{name} {tuple(value.shape)}" for name, value in sorted(network.state_dict().items()))
    assert hashlib.sha256(tensors.encode()).hexdigest() == (
        "71aff3d277876daf347df20dbf329fdcc5aeae3f43686b3917982d0282f6cc8e")
