"""Laws of imported checkpoints: they give what the public layouts give, and windows agree once statistics are frozen.

The public layouts are written out below as plain sequences of torch's own layers, with the names that their checkpoints
have.
"""

import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
import torch.nn.functional as F
from geoi2i.core.errors import ModelError
from geoi2i.core.inference.instance_norm import choose_windows
from geoi2i.core.models.convert import Origin, import_checkpoint
from geoi2i.core.models.manifest import BandSpec
from geoi2i.core.networks.instance import InstanceGenerator, InstanceSizes
from geoi2i.core.run import Compute, Options, translate_raster
from torch import nn

WIDTH, BLOCKS = 6, 2


class Blur(nn.Module):
    """Reflect or replicate, then a fixed kernel: every other pixel, or twice as many."""

    def __init__(self, channels, up):
        super().__init__()
        taps = torch.tensor([1.0, 3, 3, 1] if up else [1.0, 2, 1])
        kernel = torch.outer(taps, taps) / taps.sum() ** 2 * (4 if up else 1)
        self.up = up
        self.register_buffer("filt", kernel.repeat(channels, 1, 1, 1))

    def forward(self, x):
        if not self.up:
            return F.conv2d(nn.ReflectionPad2d(1)(x), self.filt, stride=2, groups=x.shape[1])
        x = nn.ReplicationPad2d(1)(x)
        return F.conv_transpose2d(x, self.filt, stride=2, padding=2, groups=x.shape[1])[:, :, 1:-1, 1:-1]


class Residual(nn.Module):
    def __init__(self, channels, dropout=False):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels), nn.ReLU(),
            *([nn.Dropout(0.5)] if dropout else []), nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels))

    def forward(self, x):
        return x + self.conv_block(x)


class Plain(nn.Module):
    """CycleGAN's generator, and CUT's, which blurs."""

    def __init__(self, blurred, bands_in=3, bands_out=3, dropout=False, tracked=False):
        super().__init__()
        w = WIDTH
        norm = lambda c: nn.InstanceNorm2d(c, track_running_stats=tracked)  # noqa: E731
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(bands_in, w, 7), norm(w), nn.ReLU()]
        for c in (w, 2 * w):
            layers += [nn.Conv2d(c, 2 * c, 3, 1 if blurred else 2, 1), norm(2 * c), nn.ReLU()]
            layers += [Blur(2 * c, up=False)] if blurred else []
        layers += [Residual(4 * w, dropout) for _ in range(BLOCKS)]
        for c in (4 * w, 2 * w):
            layers += [Blur(c, up=True), nn.Conv2d(c, c // 2, 3, 1, 1)] if blurred else [
                nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1)]
            layers += [norm(c // 2), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(w, bands_out, 7), nn.Tanh())

    def forward(self, x):
        return self.model(x)


class Conditioned(nn.Module):
    """UNSB's block: as published it runs every layer of its first half on the same input, and keeps the last."""

    def __init__(self, c, mended):
        super().__init__()
        self.mended = mended
        self.conv_block = nn.ModuleList([nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c)])
        self.adaptive = nn.Module()
        self.adaptive.style_net = nn.Linear(c, 2 * c)
        self.conv_fin = nn.ModuleList([nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c)])
        self.Dense_time, self.style = nn.Linear(c, c), nn.Linear(c, 2 * c)

    def forward(self, x, time, z):
        out, shift = x, self.Dense_time(time)[:, :, None, None]
        for k, layer in enumerate(self.conv_block):
            out = layer(out if self.mended else x)
            if k == 0:
                out = out + shift
        gamma, beta = self.adaptive.style_net(z)[:, :, None, None].chunk(2, 1)
        out = gamma * out + beta
        for layer in self.conv_fin:
            out = layer(out)
        return x + out


class Bridge(nn.Module):
    """UNSB's generator."""

    def __init__(self, mended=False):
        super().__init__()
        whole, w = Plain(True).model, WIDTH
        self.model, self.model_upsample = whole[:12], whole[12 + BLOCKS :]
        self.model_res = nn.ModuleList(Conditioned(4 * w, mended) for _ in range(BLOCKS))
        mapping = [part for _ in range(4) for part in (nn.Linear(4 * w, 4 * w), nn.LeakyReLU(0.2))]
        self.z_transform = nn.Sequential(nn.Identity(), *mapping)
        self.time_embed = nn.Sequential(nn.Linear(w, 4 * w), nn.LeakyReLU(0.2), nn.Linear(4 * w, 4 * w),
                                        nn.LeakyReLU(0.2))

    def forward(self, x, time, z):
        z = self.z_transform(z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt())
        angle = time[:, None] * 10_000.0 ** -(torch.arange(WIDTH // 2) / (WIDTH // 2 - 1))
        time = self.time_embed(torch.cat([angle.sin(), angle.cos()], 1))
        x = self.model(x)
        for block in self.model_res:
            x = block(x, time, z)
        return self.model_upsample(x)


def bands(*names):
    return tuple(BandSpec(name=name, minimum=0, maximum=255) for name in names)


RGB = bands("red", "green", "blue")
KINDS = {"cyclegan": lambda: Plain(False), "cut": lambda: Plain(True), "unsb": lambda: Bridge(False)}


@pytest.fixture
def imported(tmp_path):
    """`imported(kind, module, **origin)`: the package of a checkpoint of the module."""

    def make(kind, module, bands_in=RGB, bands_out=RGB, name="imported", **origin):
        torch.save(module.state_dict(), tmp_path / "net_G.pth")
        return import_checkpoint(kind, tmp_path / "net_G.pth", tmp_path / name,
                                 Origin("imported", bands_in, bands_out, **origin))

    return make


@pytest.mark.parametrize("kind, module", [
    ("cyclegan", lambda: Plain(False)), ("cyclegan", lambda: Plain(False, dropout=True)),
    ("cyclegan", lambda: Plain(False, tracked=True)), ("cut", lambda: Plain(True)),
    ("cyclegan", lambda: nn.DataParallel(Plain(False)))])
def test_an_imported_network_gives_what_its_layout_gives(imported, kind, module):
    torch.manual_seed(0)
    module = module()
    package = imported(kind, module)
    module = (module.module if isinstance(module, nn.DataParallel) else module).train()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    x = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.inference_mode():
        assert torch.allclose(package.network()(x, torch.zeros(2)), module(x), atol=1e-5)
    assert package.verify() < 1e-5


@pytest.mark.parametrize("mended", [False, True])
def test_an_imported_bridge_gives_what_its_layout_gives(imported, mended):
    torch.manual_seed(0)
    module = Bridge(mended)
    network = imported("unsb", module, mended=mended).network()
    x, time, z = torch.rand(2, 3, 32, 48) * 2 - 1, torch.tensor([0.0, 3.0]), torch.randn(2, 4 * WIDTH)
    with torch.inference_mode():
        assert torch.allclose(network(x, time, z), module(x, time, z), atol=1e-5)
        moved = (network(x, time + 1, z) - network(x, time, z)).abs().max()
        # Time stands before a norm even in the mended block, and a constant is subtracted there again.
        assert moved < 1e-4


def test_the_radius_is_that_of_the_specification():
    sizes = {"bands_in": 3, "bands_out": 3}
    assert InstanceGenerator(InstanceSizes(**sizes)).radius_px == 93
    assert InstanceGenerator(InstanceSizes(**sizes, conditioned=1, legacy=1)).radius_px == 57


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_beyond_the_radius_reaches_a_pixel(imported, kind):
    network = imported(kind, KINDS[kind]()).network()
    style = torch.ones(1, network.style_size) if network.style_size else None

    def constant(x):  # statistics of nothing: what is left is the reach of the kernels
        return 0.3 * x

    x = (torch.rand(1, 3, 160, 160) * 2 - 1).requires_grad_(True)
    network(x, torch.zeros(1), style, constant)[0, :, 80, 81].sum().backward()
    seen = (x.grad.abs().sum((0, 1)) > 0).nonzero() - torch.tensor([80, 81])
    # The lattice lets a pixel see further to one side than to the other.
    assert network.radius_px - 4 <= seen.abs().max() <= network.radius_px


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", ["whole", "windows"])
def test_windows_agree_with_frozen_statistics_and_differ_without(imported, make_raster, monkeypatch, tmp_path, kind,
                                                                chosen):
    from geoi2i.core.inference import instance_norm as norms

    if chosen == "windows":
        monkeypatch.setattr(norms, "_WINDOWS", 4)
        monkeypatch.setattr(norms, "_SIDE_PX", 32)
    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 150, 240)[:, None] + np.linspace(0, 80, 200)  # windows differ in level
    pixels = (ramp + generator.normal(0, 10, (3, 240, 200))).clip(0, 255).astype("float32")
    pixels[:, 100:110, 40:60] = np.nan
    torch.manual_seed(3)
    package, source = imported(kind, KINDS[kind](), steps=2), make_raster(pixels)

    def run(name, **options):
        path = translate_raster(source, tmp_path / name, package, Options(**options), compute=Compute(device="cpu"))
        with rasterio.open(path) as data:
            return data.read()

    whole = run("a.tif", tile=4096)
    spread = np.nanstd(whole)
    assert np.nanmax(np.abs(whole - run("b.tif", tile=64))) < 1e-4 * spread
    assert np.nanmax(np.abs(whole[:, 96:160] - run(
        "c.tif", tile=64, norm_statistics="tile")[:, 96:160])) > 0.1 * spread


def test_a_whole_raster_has_the_statistics_of_its_own(imported, make_raster, tmp_path):
    """Away from the border a small raster comes out as from the network alone, in one window."""
    torch.manual_seed(0)
    module = Plain(True)
    package = imported("cut", module)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 160, 200)).astype("float32")
    path = translate_raster(make_raster(pixels), tmp_path / "o.tif", package, Options(tile=64),
                            compute=Compute(device="cpu"))
    with rasterio.open(path) as data, torch.inference_mode():
        alone = (module(torch.from_numpy(pixels)[None] / 127.5 - 1)[0].numpy() + 1) * 127.5
        inside = np.s_[:, 48:-48, 48:-48]
        assert np.abs(data.read()[inside] - alone[inside]).max() < 1e-3 * alone.std()


@pytest.mark.slow
def test_statistics_of_windows_come_close_to_those_of_the_whole(imported, make_raster, monkeypatch, tmp_path):
    """On a raster of one texture, the closer the more of it is looked at: a hundredth, a fifth, all."""
    from geoi2i.core.inference import instance_norm as norms

    torch.manual_seed(0)
    package = imported("cut", Plain(True))
    pixels = np.random.default_rng(0).normal(128, 40, (3, 320, 320)).clip(0, 255).astype("float32")
    outputs = []
    for count, side in ((32, 128), (4, 16), (9, 48)):
        monkeypatch.setattr(norms, "_WINDOWS", count)
        monkeypatch.setattr(norms, "_SIDE_PX", side)
        path = translate_raster(make_raster(pixels), tmp_path / f"{side}.tif", package, compute=Compute(device="cpu"))
        with rasterio.open(path) as data:
            outputs.append(data.read())
    far, near = (np.abs(outputs[0] - other).mean() / outputs[0].std() for other in outputs[1:])
    assert 0 < near < 0.2 and near < 0.5 * far


def test_the_sample_covers_small_rasters_and_spreads_over_large_ones():
    assert choose_windows(500, 700, 4).windows[0].height == 500 and choose_windows(500, 700, 4).share == 1
    for height, width in ((10_000, 10_000), (100, 60_000), (60_000, 300), (3000, 50_000)):
        sample = choose_windows(height, width, 4)
        assert 16 <= len(sample.windows) <= 40
        assert all(w.row % 4 == w.col % 4 == 0 and w.row + w.height <= height and w.col + w.width <= width
                   for w in sample.windows)
        for firsts, side, size in (({w.row for w in sample.windows}, sample.windows[0].height, height),
                                   ({w.col for w in sample.windows}, sample.windows[0].width, width)):
            ends = (min(firsts), max(firsts) + side) if len(firsts) > 1 else (0, size)
            assert ends == (0, pytest.approx(size, abs=4))
            assert len(firsts) > 1 or min(firsts) == pytest.approx((size - side) / 2, abs=4)
        assert len({(w.row, w.col) for w in sample.windows}) == len(sample.windows)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["whole", "windows"])
def test_what_is_filled_does_not_count(imported, make_raster, monkeypatch, tmp_path, chosen):
    """A scene alone, and the same in a frame without data that is twice as large; far from its border."""
    from geoi2i.core.inference import instance_norm as norms

    if chosen == "windows":
        monkeypatch.setattr(norms, "_WINDOWS", 16)
        monkeypatch.setattr(norms, "_SIDE_PX", 64)
    torch.manual_seed(0)
    package = imported("cut", Plain(True))
    scene = np.random.default_rng(0).uniform(0, 255, (3, 400, 400)).astype("float32")
    framed = np.full((3, 720, 720), np.nan, "float32")
    framed[:, 160:560, 160:560] = scene
    found = []
    for name, pixels in (("alone", scene), ("framed", framed)):
        path = translate_raster(make_raster(pixels, name=f"{name}.tif"), tmp_path / f"{name}-o.tif", package,
                                compute=Compute(device="cpu"))
        with rasterio.open(path) as data:
            corner = 184 if name == "alone" else 344
            found.append(data.read()[:, corner : corner + 32, corner : corner + 32])
    off = float(np.sqrt(((found[0] - found[1]) ** 2).mean()))
    assert off < 0.25 * found[0].std()


def test_windows_are_looked_for_where_there_is_data():
    valid = np.zeros((500, 1000), bool)
    valid[100:220, 700:900] = True
    sample = choose_windows(5000, 10_000, 4, valid)
    assert 12 <= len(sample.windows) <= 32
    shares = [valid[w.row // 10 : (w.row + w.height) // 10, w.col // 10 : (w.col + w.width) // 10].mean()
              for w in sample.windows]
    assert min(shares) > 0.4
    assert choose_windows(5000, 10_000, 4, np.zeros((5, 10), bool)).windows, "nothing to look at is said elsewhere"
    assert choose_windows(3, 200_000, 4).windows[0].height == 3, "lower than the lattice"


# --- what is refused ----------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("evil",)


@pytest.mark.parametrize("kind, state, words", [
    ("cut", lambda: Plain(False).state_dict(), "lacks fixed blurs: try --from cyclegan"),
    ("cyclegan", lambda: Plain(True).state_dict(), "has fixed blurs: try --from cut"),
    ("cyclegan", lambda: Bridge().state_dict(), "has fixed blurs|has a tensor"),
    ("unsb", lambda: Plain(True).state_dict(), "is not an? unsb generator"),
    ("cyclegan", lambda: {"conv.weight": torch.zeros(3, 3)}, "has a tensor 'conv.weight'"),
    ("cyclegan", lambda: {k: v for k, v in Plain(False).state_dict().items() if "model.0" not in k and ".1." not in k},
     "is not a cyclegan generator"),
    ("cyclegan", lambda: Plain(False).state_dict() | {"model.4.weight": torch.zeros(5, 5, 3, 3)}, "does not fit"),
    ("cyclegan", lambda: Plain(False, bands_in=4).state_dict(), "takes 4 bands and gives 3, and 3 and 3 are named"),
    ("cyclegan", lambda: {"epoch": 3, **Plain(False).state_dict()}, "holds no dictionary of tensors"),
    ("cyclegan", lambda: {"model": Evil()}, "cannot be read as weights"),
    ("cyclegan", lambda: dict(enumerate(Plain(False).state_dict().values())), "has tensors without names"),
    ("cyclegan", lambda: {k: v * float("nan") for k, v in Plain(False).state_dict().items()},
     "no plain finite numbers"),
    ("cyclegan", lambda: {k: v.to_sparse() for k, v in Plain(False).state_dict().items()}, "no plain finite numbers"),
    ("cyclegan", lambda: {k: v + 1j for k, v in Plain(False).state_dict().items()}, "no plain finite numbers"),
    ("cyclegan", lambda: [], "holds no dictionary of tensors")])
def test_other_files_are_refused_in_a_sentence(tmp_path, monkeypatch, kind, state, words):
    monkeypatch.chdir(tmp_path)
    torch.save(state(), tmp_path / "net_G.pth")
    with pytest.raises(ModelError, match=words):
        import_checkpoint(kind, tmp_path / "net_G.pth", tmp_path / "model", Origin("m", RGB, RGB))
    assert not (tmp_path / "model").exists() and not (tmp_path / "evil").exists()


def test_a_file_that_is_cut_off_or_missing_is_refused(tmp_path):
    torch.save(Plain(False).state_dict(), tmp_path / "net_G.pth")
    content = (tmp_path / "net_G.pth").read_bytes()
    (tmp_path / "net_G.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="cannot be read as weights"):
        import_checkpoint("cyclegan", tmp_path / "net_G.pth", tmp_path / "model", Origin("m", RGB, RGB))
    with pytest.raises(ModelError, match="is not a file"):
        import_checkpoint("cyclegan", tmp_path / "none.pth", tmp_path / "model", Origin("m", RGB, RGB))


@pytest.mark.parametrize("origin, words", [
    ({"name": "Summer"}, "would not be a valid model: key 'name'"),
    ({"licence": "a\x1bb"}, "would not be a valid model: key 'licence'"),
    ({"tau": float("nan")}, "would not be a valid model: ")])
def test_facts_that_make_no_model_are_refused(tmp_path, origin, words):
    torch.save(Bridge().state_dict() if "tau" in origin else Plain(False).state_dict(), tmp_path / "net_G.pth")
    facts = {"name": "m", "bands_in": RGB, "bands_out": RGB} | origin
    with pytest.raises(ModelError, match=words):
        import_checkpoint("unsb" if "tau" in origin else "cyclegan", tmp_path / "net_G.pth", tmp_path / "model",
                          Origin(**facts))
    assert not (tmp_path / "model").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    torch.save(Plain(False).state_dict(), tmp_path / "net_G.pth")
    with pytest.raises(ModelError, match="cannot be written"):
        import_checkpoint("cyclegan", tmp_path / "net_G.pth", tmp_path / "net_G.pth" / "m", Origin("m", RGB, RGB))


@pytest.mark.slow
@pytest.mark.parametrize("options, words", [
    (["--bands", "red,,blue"], "a band without a name"),
    (["--bands", "r,g,b", "--range=-inf,inf"], "do not describe bands")])
def test_the_command_line_names_what_makes_no_bands(tmp_path, options, words):
    torch.save(Plain(False).state_dict(), tmp_path / "net_G.pth")
    command = [sys.executable, "-m", "geoi2i", "models", "import", "--from", "cyclegan", "net_G.pth", "model", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr and not (tmp_path / "model").exists()
