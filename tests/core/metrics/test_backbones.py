"""Networks of published measures have the published layers, and only files of known origin become one.

Values marked as of torchvision or pytorch-fid come from torchvision 0.28 and pytorch-fid 0.3 with the same weights.
"""

import dataclasses
import hashlib
import sys

import numpy as np
import pytest
import torch
from geoi2i.core.errors import ModelError
from geoi2i.core.metrics import weights
from geoi2i.core.metrics.backbones import AlexNet, ResNet50, Vgg16
from geoi2i.core.metrics.inception import InceptionFid
from geoi2i.core.metrics.weights import WEIGHTS, Backbone, load_backbone, shipped
from metric_inputs import pair

NETWORKS = {"alexnet": AlexNet, "vgg16": Vgg16, "resnet50": ResNet50, "inception": InceptionFid}


def noise(count, seed):
    """Numbers (count,) in [-1, 1), the same on every machine (the mixer of splitmix64)."""
    x = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x >> np.uint64(40)) / 2**23 - 1


def lively(network):
    """The network, for inference, with weights that keep the strength of what passes."""
    state = network.state_dict()
    for seed, key in enumerate(sorted(key for key in state if not key.startswith(("classifier.", "fc.")))):
        value = state[key]
        found = noise(value.numel(), seed).reshape(value.shape)
        if value.ndim > 1:
            found *= (6 / value[0].numel()) ** 0.5
        elif key.endswith("running_var") or (key.endswith("weight") and value.ndim == 1):
            found = 1 + 0.5 * found
        else:
            found *= 0.2
        if not key.endswith("num_batches_tracked"):
            state[key] = torch.from_numpy(found).float()
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def saved(network, name, folder, monkeypatch, **more):
    """The path of a file with the network's weights, which `load_backbone` takes for the published one."""
    path = folder / WEIGHTS[name].files[0]
    torch.save({**network.state_dict(), **more}, path)
    trust(name, path, monkeypatch)
    return path


def trust(name, path, monkeypatch):
    monkeypatch.setitem(WEIGHTS, name, dataclasses.replace(
        WEIGHTS[name], sha256=hashlib.sha256(path.read_bytes()).hexdigest()[:8]))


# --- layers ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, parameters, entries", [
    ("alexnet", 2_469_696, 10), ("vgg16", 14_714_688, 26), ("resnet50", 23_508_032, 318),
    ("inception", 23_850_960 - 1008 * 2049, 564)])
def test_they_have_as_many_weights_as_published(name, parameters, entries):
    """Without classifiers; FID's has 1008 classes."""
    with torch.device("meta"):
        network = NETWORKS[name]()
    assert sum(value.numel() for value in network.parameters()) == parameters
    assert len(network.state_dict()) == entries


@pytest.mark.parametrize("name, shapes", [
    ("alexnet", {"features.0.weight": (64, 3, 11, 11), "features.3.bias": (192,), "features.10.bias": (256,)}),
    ("vgg16", {"features.0.weight": (64, 3, 3, 3), "features.7.bias": (128,), "features.28.weight": (512, 512, 3, 3)}),
    ("resnet50", {"conv1.weight": (64, 3, 7, 7), "bn1.running_mean": (64,), "layer1.0.downsample.0.weight":
                  (256, 64, 1, 1), "layer2.0.conv2.weight": (128, 128, 3, 3), "layer3.5.bn3.num_batches_tracked": (),
                  "layer4.2.conv1.weight": (512, 2048, 1, 1), "layer4.0.downsample.1.bias": (2048,)}),
    ("inception", {"Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3), "Mixed_5b.branch_pool.bn.running_var": (32,),
                   "Mixed_5d.branch5x5_2.conv.weight": (64, 48, 5, 5), "Mixed_6a.branch3x3.conv.weight":
                   (384, 288, 3, 3), "Mixed_6c.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
                   "Mixed_7a.branch7x7x3_2.conv.weight": (192, 192, 1, 7), "Mixed_7b.branch3x3dbl_1.bn.bias": (448,),
                   "Mixed_7c.branch3x3_2a.conv.weight": (384, 384, 1, 3),
                   "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1)})])
def test_their_weights_are_named_and_shaped_as_in_torchvision(name, shapes):
    with torch.device("meta"):
        state = NETWORKS[name]().state_dict()
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


@pytest.mark.slow
def test_their_features_are_those_of_torchvision_and_pytorch_fid():
    image = torch.from_numpy(pair("rr4")[0][None, :3, :96, :80]).float() / 2047
    with torch.inference_mode():
        for name, expected in FEATURES.items():
            maps = lively(NETWORKS[name]())(image * 255 if name == "inception" else image)
            found = [value for one in ([maps] if name == "inception" else maps)
                     for value in (one.mean().item(), one.std().item())]
            assert found == pytest.approx(expected, rel=2e-5), name


FEATURES = {  # mean and standard deviation of each map
    "alexnet": [0.22929, 0.3659939, 0.3211859, 0.4797591, 0.3898579, 0.6074477, 0.3737716, 0.5375148, 0.329258,
                0.4919638],
    "vgg16": [0.2517606, 0.4109646, 0.3309959, 0.5096239, 0.2944934, 0.4631085, 0.3519793, 0.5295264, 0.3314773,
              0.4933016],
    "resnet50": [2.243648, 2.94452, 24.06047, 30.29857, 543.3241, 671.133, 1985.864, 2455.059],
    "inception": [2.669244, 3.816711],
}


def test_resnet_takes_any_number_of_bands():
    with torch.inference_mode():
        maps = ResNet50(13).eval()(torch.zeros(1, 13, 64, 64))
    assert [tuple(one.shape) for one in maps] == [(1, 256, 16, 16), (1, 512, 8, 8), (1, 1024, 4, 4), (1, 2048, 2, 2)]


# --- files -------------------------------------------------------------------------------------------

def test_a_file_becomes_a_network_for_inference_that_names_it(tmp_path, monkeypatch):
    network = lively(AlexNet())
    path = saved(network, "alexnet", tmp_path, monkeypatch, **{"classifier.6.bias": torch.zeros(1000)})
    backbone = load_backbone("alexnet", tmp_path)
    assert (backbone.name, backbone.file) == ("alexnet", path.name)
    assert backbone.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not backbone.module.training and not any(value.requires_grad for value in backbone.module.parameters())
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in backbone.module.state_dict().items())


@pytest.mark.slow
def test_old_files_without_counters_and_files_of_halves_are_read(tmp_path, monkeypatch):
    network = lively(ResNet50(13))
    name = "sentinel2"
    torch.save({key: value.half() for key, value in network.state_dict().items() if "tracked" not in key},
               tmp_path / WEIGHTS[name].files[0])
    trust(name, tmp_path / WEIGHTS[name].files[0], monkeypatch)
    module = load_backbone(name, tmp_path).module
    assert module.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(module.layer4[2].conv3.weight, network.layer4[2].conv3.weight, rtol=1e-3, atol=1e-6)


def test_published_files_carry_their_digits():
    for published in WEIGHTS.values():
        assert all(published.sha256 in file for file in published.files) and published.files[0] in published.source


class Touch:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("content, sentence", [
    (lambda state, _: {**state, "features.99.weight": torch.ones(1)}, r"not of backbone.*at features\.99\.weight"),
    (lambda state, _: {k: v for k, v in state.items() if k != "features.8.bias"}, r"not of.*at features\.8\.bias"),
    (lambda state, _: {**state, "features.0.weight": torch.zeros(64, 4, 11, 11)}, r"not of.*at features\.0\.weight"),
    (lambda state, _: {**state, "classifier.1.weight": Touch("x")}, "could carry code"),
    (lambda state, folder: Touch(folder / "ran"), "could carry code"),
    (lambda state, _: {"state_dict": state, "epoch": 3}, "more than named tensors"),
    (lambda state, _: list(state.values()), "more than named tensors"),
])
def test_a_foreign_file_is_refused(content, sentence, tmp_path, monkeypatch):
    path = tmp_path / WEIGHTS["alexnet"].files[0]
    torch.save(content(AlexNet().state_dict(), tmp_path), path)
    trust("alexnet", path, monkeypatch)
    with pytest.raises(ModelError, match=sentence) as error:
        load_backbone("alexnet", tmp_path)
    assert path.name in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_an_altered_or_cut_file_is_refused(tmp_path, monkeypatch):
    path = saved(AlexNet(), "alexnet", tmp_path, monkeypatch)
    whole = path.read_bytes()
    for content in (whole[:-1000], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"not the published file.*altered or cut off.*download\.pytorch\.org"):
            load_backbone("alexnet", tmp_path)
    for cut in (whole[:-1000], whole[:5000], b"", b"\x80\x02garbage"):
        path.write_bytes(cut)
        trust("alexnet", path, monkeypatch)
        with pytest.raises(ModelError, match="cut off, or could carry code"):
            load_backbone("alexnet", tmp_path)


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path):
    for name, published in WEIGHTS.items():
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(ModelError) as error:
                load_backbone(name, folder)
            assert all(part in str(error.value) for part in (str(folder), *published.files, published.source))
    with pytest.raises(ModelError, match=r"No folder is named for alexnet-owt.*download\.pytorch\.org"):
        load_backbone("alexnet", None)
    with pytest.raises(ModelError, match=r"'resnet' is unknown: choose one of alexnet, vgg16"):
        load_backbone("resnet", tmp_path)


def test_a_network_without_the_hash_of_a_file_is_no_backbone():
    for digits in ("", "0" * 63, "random"):
        with pytest.raises(ModelError, match="SHA-256 of its file belongs"):
            Backbone("alexnet", AlexNet(), digits, "")
    with pytest.raises(TypeError):
        Backbone("alexnet", AlexNet())


def test_learned_weights_are_read_without_importing_torchmetrics(monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "torchmetrics"]:
        monkeypatch.delitem(sys.modules, module)
    assert len(shipped("functional/image/lpips_models/alex.pth")) == 5
    assert "torchmetrics" not in sys.modules
    with pytest.raises(ModelError, match=r"none\.pth is missing.*pip install .geoi2i.metrics"):
        shipped("functional/image/lpips_models/none.pth")
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="is missing"):
        shipped("functional/image/lpips_models/alex.pth")
