"""Laws of C-DiffSET: a folder of Stable Diffusion is loaded whole or not at all, surgery changes nothing at first, the
loss is the released code's, and what was trained runs over rasters of any size with its confidence beside it."""

import hashlib
import json
import math
import shutil

import diffusers
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import ModelError, RasterError, RecipeError
from geoi2i.core.inference.sampler import advance, predict
from geoi2i.core.models.package import ModelPackage
from geoi2i.core.networks.latent import Autoencoder, LatentUNet, confidence, variance
from geoi2i.core.run import Compute, Options, translate_raster
from geoi2i.training.data import open_domains
from geoi2i.training.export import export_run
from geoi2i.training.loop import train
from geoi2i.training.methods.cdiffset import CDiffSET, Settings, noise_loss
from geoi2i.training.pretrained import find_parts, load_unet
from geoi2i.training.processes import connect
from geoi2i.training.recipe import bundled_recipes, describe_bands, load_recipe, make_recipe
from geoi2i.training.state import start_run

LETTERS = "abcdefghijklmnopqrstuvwxyz-"


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    """A folder in the layout of diffusers with tiny networks of random weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("stable") / "tiny-stable-diffusion"
    torch.manual_seed(0)
    diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(16, 32, 32, 32), layers_per_block=1,
        norm_num_groups=8, latent_channels=4).save_pretrained(folder / "vae")
    diffusers.UNet2DConditionModel(
        in_channels=4, out_channels=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), block_out_channels=(32, 64), layers_per_block=1,
        cross_attention_dim=32, attention_head_dim=8, norm_num_groups=8).save_pretrained(folder / "unet")
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(vocabulary)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}))
    CLIPTextModel(CLIPTextConfig(
        vocab_size=1000, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        bos_token_id=0, eos_token_id=1, pad_token_id=1)).save_pretrained(folder / "text_encoder")
    diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                            set_alpha_to_one=False, steps_offset=1).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.fixture
def copied(stable, tmp_path):
    """The folder, to be spoilt."""
    return shutil.copytree(stable, tmp_path / "copied")


def write(path, pixels, names=(), nodata=None):
    with rasterio.open(path, "w", driver="GTiff", count=pixels.shape[0], height=pixels.shape[1], dtype=pixels.dtype,
                       width=pixels.shape[2], crs="EPSG:32633", nodata=nodata, transform=Affine(10, 0, 0, 0, -10, 0)
                       ) as out:
        out.write(pixels)
        if names:
            out.descriptions = names
    return str(path)


@pytest.fixture
def recipe(stable, tmp_path):
    """`recipe(bands=2, **settings)`: SAR in decibels, and a picture of the same ground."""
    rng = np.random.default_rng(0)
    optical = np.kron(rng.integers(20, 230, (3, 10, 9)), np.ones((1, 12, 12), int)).astype("uint8")
    target = write(tmp_path / "optical.tif", optical)

    def make(bands=2, window=64, **settings):
        speckle = rng.gamma(4, 0.25, (bands, *optical.shape[1:]))
        sar = (10 * np.log10(optical[:1] / 255 * speckle + 1e-3)).astype("float32")
        source = write(tmp_path / f"sar{bands}.tif", sar, ("VV", "VH", "A", "B", "C")[:bands])
        content = {"name": "c", "method": "cdiffset", "data": {
            "source": {"paths": [source]}, "target": {"paths": [target]}, "window_px": window, "batch": 2},
            "bands": {"normalise_in": {"kind": "percentile", "low": 1, "high": 99}, "dtype": "uint8"},
            "network": {"name": "latent"}, "optimiser": {"lr": 1e-3},
            "budget": {"steps": 4, "log_every": 2, "checkpoint_every": 2, "preview_every": 4},
            "settings": {"weights": str(stable), "steps": 4, **settings}}
        return describe_bands(make_recipe(content, {}, "test"))

    return make


def digest(network):
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in network.state_dict().values())).hexdigest()


def test_the_recipes_are_two_stages():
    first, second = (load_recipe(bundled_recipes()[name]) for name in ("cdiffset-conditioning", "cdiffset"))
    assert (first.settings["loss"], second.settings["loss"]) == ("mse", "cdiff_code")
    assert first.model_copy(update={"name": "", "settings": {}}) == second.model_copy(
        update={"name": "", "settings": {}})


def test_surgery_changes_nothing_at_first(stable):
    """The same code twice gives what the published network gave (C-DiffSET's halved weights), the further channel
    zero."""
    parts = find_parts(stable, 7, 1)
    unet = diffusers.UNet2DConditionModel.from_pretrained(stable, subfolder="unet")
    network, prompt = LatentUNet(parts.unet), torch.randn(1, 7, 32)
    network.load_state_dict({**load_unet(parts), "prompt": prompt})
    code = torch.randn(2, 4, 8, 8)
    with torch.inference_mode():
        made = network(torch.cat([code, code], 1), torch.tensor([3.0, 900.0]), None)
        wanted = unet(code, torch.tensor([3, 900]), prompt.expand(2, -1, -1)).sample
    assert torch.allclose(made[:, :4], wanted, atol=1e-5)
    assert torch.equal(made[:, 4:], torch.zeros(2, 1, 8, 8)) and torch.allclose(variance(made[:, 4:]), torch.ones(1))


def test_the_source_stands_first_inside(stable):
    """As in the released code; the sampler shows the state first."""
    network = LatentUNet(find_parts(stable, 3, 0).unet)
    seen = []
    network.unet.conv_in.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    state, source = torch.zeros(1, 4, 8, 8), torch.ones(1, 4, 8, 8)
    network(torch.cat([state, source], 1), torch.zeros(1), None)
    assert (seen[0][:, :4] == 1).all() and (seen[0][:, 4:] == 0).all()


def test_codes_are_scaled_means(stable):
    vae = diffusers.AutoencoderKL.from_pretrained(stable, subfolder="vae")
    spec = find_parts(stable, 1, 0).autoencoder.model_copy(update={"mix": ((1, 0), (0.5, 0.5), (0, 1))})
    codec = Autoencoder(spec)
    codec.autoencoder.load_state_dict(vae.state_dict())
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        codes = codec.encode(image)
        assert torch.equal(codes, vae.encode(image).latent_dist.mean * 0.18215)
        assert torch.allclose(codec.decode(codes), vae.decode(codes / 0.18215).sample)
    mixed = codec.mixed(torch.tensor([[[[-3.0]], [[0.5]]]]))
    assert mixed.flatten().tolist() == [-1, -0.25, 0.5]


@pytest.mark.parametrize("steps, spacing", [(50, "leading"), (4, "trailing"), (1, "trailing")])
def test_the_sampler_is_diffusers_ddim(steps, spacing):
    """Stepped side by side, with the same arbitrary noise predictions; 981, 961, .., 1 for fifty, and few steps begin
    where there is nothing but noise."""
    method = CDiffSET(Settings(weights="", steps=steps))
    table = method.steps()
    scheduler = diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
                                        timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert [row.time for row in table.steps] == scheduler.timesteps.tolist()
    assert steps != 50 or [row.time for row in table.steps][:2] == [981, 961]
    x = wanted = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    for row, time in zip(table.steps, scheduler.timesteps):
        eps = torch.randn_like(x)
        x_hat = predict(table, row, lambda *shown, eps=eps: eps, x, torch.zeros_like(x))
        x = advance(row, x, x_hat, None, None, None)
        wanted = scheduler.step(eps, time, wanted).prev_sample
    assert torch.allclose(x, wanted, atol=1e-5)


def test_losses_begin_where_the_released_code_begins():
    """v = 1: half the mean squared error and log(2 pi)/2 = 0.918939."""
    off, raw, a = torch.randn(4, 4, 8, 8), torch.zeros(4, 1, 8, 8), torch.rand(4, 1, 1, 1)
    for kind in ("cdiff_code", "cdiff_beta1"):
        found = noise_loss(kind, off, raw, a).item()
        assert found == pytest.approx(off.square().mean().item() / 2 + 0.918939, abs=1e-5)
    assert noise_loss("mse", off, raw[:, :0], a) == off.square().mean()
    literal = (off + math.log(2 * math.pi)).flatten(1).norm(dim=1).mean().item()
    assert noise_loss("cdiff_eq3", off, raw, a).item() == pytest.approx(literal, rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_gradient_of_the_mean_is_scaled_by_the_variance(beta):
    """By v^(beta - 1): at beta = 1 as for the plain error, at 0 as for the full likelihood."""
    off, raw = torch.randn(1, 4, 8, 8, requires_grad=True), torch.full((1, 1, 8, 8), 2.0)
    noise_loss("cdiff_code", off, raw, torch.full((1, 1, 1, 1), beta)).backward()
    plain = off.detach() / off.numel()
    assert torch.allclose(off.grad, plain * variance(raw) ** (beta - 1), rtol=1e-5)


def test_confidence_stays_within_what_a_variance_can_be():
    raw = torch.full((1, 1, 8, 8), 12.0)
    raw[..., 4:] = -4.0
    made = confidence(raw, 8)
    assert made.shape == (1, 1, 64, 64) and made.min() >= 0.1 and made.max() <= 1 / variance(raw).min()


def test_variances_are_bounded():
    raw = torch.tensor([-100.0, 0.0, 100.0])
    assert torch.allclose(variance(raw), torch.tensor([1e-6, 1.0, 10.0]), rtol=1e-5)
    assert confidence(torch.zeros(1, 1, 4, 4), 8).shape == (1, 1, 32, 32)


def test_only_the_network_learns(recipe):
    made = recipe()
    fabric, processes = connect("cpu")
    run, domains = start_run(made, fabric, processes), open_domains(made)
    before = {name: digest(network) for name, network in run.networks.items()}
    for loss in run.method.losses(run.networks, domains.batch(made, 0)):
        loss.value.backward()
        run.optimisers[loss.player].step()
    assert all(parameter.grad is None for parameter in run.networks["codec"].parameters())
    changed = {name for name, network in run.networks.items() if digest(network) != before[name]}
    assert changed == {"generator"}


@pytest.mark.slow
def test_two_stages_train_export_and_run_with_a_confidence(recipe, make_package, tmp_path):
    first = train(recipe(loss="mse"), tmp_path / "one", device="cpu")
    package = export_run(first, tmp_path / "first")
    assert package.manifest.auxiliary is None and package.manifest.channels == (8, 4)
    second = train(recipe(weights=str(tmp_path / "first")), tmp_path / "two", device="cpu")
    package = export_run(second, tmp_path / "second")
    manifest = package.manifest
    assert (manifest.auxiliary.step, manifest.channels, manifest.tile_px, manifest.multiple_of) == (2, (8, 5), 64, 16)
    assert manifest.recipe["settings"]["weights"] == "first", "no folder of this machine ships"
    assert package.verify() <= 1e-4 and manifest.attends
    # 120 x 108 pixels are no whole number of codes across.
    made = translate_raster(str(tmp_path / "sar2.tif"), tmp_path / "o.tif", package, compute=Compute(device="cpu"),
                            confidence=tmp_path / "c.tif")
    with rasterio.open(made) as data, rasterio.open(tmp_path / "c.tif") as sure:
        assert (data.count, data.height, data.width, data.dtypes[0]) == (3, 120, 108, "uint8")
        assert sure.transform == data.transform and sure.shape == data.shape and sure.descriptions == ("confidence",)
        values = sure.read(1)
        assert data.read().std() > 0 and np.isfinite(values).all() and 0.09 < values.min() <= values.max()
    # What comes after it takes its bands, and not what it says besides.
    after = make_package("after", bands_in=manifest.bands_out, bands_out=manifest.bands_out, steps=1, maximum=255,
                         input_model="second", minimum=0, dtype="float32")
    path = translate_raster(str(tmp_path / "sar2.tif"), tmp_path / "after.tif", ModelPackage.load(after.folder),
                            compute=Compute(device="cpu"))
    with rasterio.open(path) as data:
        assert data.count == 3 and np.isfinite(data.read()).all()
    with pytest.raises(RasterError, match="does not say how sure it is: leave --confidence out"):
        translate_raster(str(tmp_path / "sar2.tif"), tmp_path / "x.tif", ModelPackage.load(tmp_path / "first"),
                         compute=Compute(device="cpu"), confidence=tmp_path / "y.tif")


@pytest.mark.slow
def test_windows_side_by_side_and_strips_change_no_bit(recipe, tmp_path):
    """In one process, and in strips that are made alone; nodata stays where it was."""
    from pathlib import Path

    from geoi2i.core.pipeline.translation import Translation
    from geoi2i.core.run import plan_translation

    run = train(recipe(), tmp_path / "one", device="cpu")
    package = export_run(run, tmp_path / "model")
    generator = np.random.default_rng(1)
    pixels = generator.normal(-10, 4, (2, 150, 100)).astype("float32")
    pixels[:, 40:60, 30:50] = np.nan
    source = write(tmp_path / "s.tif", pixels, ("VV", "VH"), nodata=float("nan"))
    plan = plan_translation(source, package, Options(), Compute(device="cpu"))
    job = Translation(plan, Path("o.tif"), None, Path("c.tif"))
    parts = [list(job.rows(part, lambda share: None)) for part in ((0, 150), (0, 70), (70, 150))]
    whole, *others = [[np.concatenate([rows[k].pixels for rows in part], 1) for k in range(2)] for part in parts]
    for k in range(2):
        assert np.array_equal(np.concatenate([each[k] for each in others], 1), whole[k], equal_nan=k == 1)
    masks = np.concatenate([np.isnan(rows[1].pixels) for rows in parts[0]], 1)
    assert np.array_equal(masks[0], np.isnan(pixels[0]))
    # For whoever takes a corner only it has the same bits, and rows of the same size.
    corner = list(job.only(lambda window: window.row < 20 and window.col < 12).rows((0, 150), lambda share: None))
    for k in range(2):
        part = np.concatenate([rows[k].pixels for rows in corner], 1)
        assert part.shape == whole[k].shape and np.array_equal(part[:, :20, :12], whole[k][:, :20, :12])


@pytest.mark.slow
def test_confidence_is_low_where_the_sar_says_nothing():
    """A toy of 24 x 24: inside a square the target is independent of the source; a small network learns both heads."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 16, 3, padding=1), torch.nn.SiLU(),
                                  torch.nn.Conv2d(16, 16, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(16, 2, 1))
    optimiser, inside = torch.optim.Adam(network.parameters(), 5e-3), torch.zeros(24, 24, dtype=torch.bool)
    inside[6:18, 6:18] = True
    process = CDiffSET(Settings()).process

    def said(count, time):
        source = torch.randn(count, 1, 24, 24)
        clean = torch.where(inside, torch.randn(count, 1, 24, 24), source)
        a, s = (values[time + 1].float() for values in (process.a, process.s))
        eps = torch.randn_like(clean)
        out = network(torch.cat([a * clean + s * eps, source], 1))
        return eps - out[:, :1], out[:, 1:], a

    for _ in range(400):
        off, raw, a = said(16, 500)
        loss = noise_loss("cdiff_code", off, raw, a)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        v = variance(said(64, 500)[1]).mean((0, 1))
    assert v[8:16, 8:16].mean() / v[~inside].mean() >= 3


@pytest.mark.parametrize("spoil, words", [
    (lambda folder: shutil.rmtree(folder), "is not a folder: name that of Stable Diffusion"),
    (lambda folder: shutil.rmtree(folder / "vae"), r"is not whole, it lacks vae/config.json, vae/\*.safetensors"),
    (lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(), r"lacks unet/\*.safetensors"),
    (lambda folder: (folder / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "v_prediction"}'),
     "predicts v_prediction, .* use the base model"),
    (lambda folder: (folder / "vae" / "config.json").write_text("{"), "cannot be read as JSON"),
    (lambda folder: edit(folder / "unet" / "config.json", act_fn="gelu"), "has act_fn 'gelu', and geoi2i knows 'silu'"),
    (lambda folder: edit(folder / "unet" / "config.json", layers_per_block=[1, 2]), "sizes that geoi2i does not know"),
    (lambda folder: (folder / "tokenizer" / "vocab.json").unlink(), "tokenizer cannot be loaded"),
    (lambda folder: edit(folder / "unet" / "config.json", in_channels=9), "takes 9 and gives 4 channels"),
    (lambda folder: cut(folder / "unet" / "diffusion_pytorch_model.safetensors"), "unet cannot be loaded"),
    (lambda folder: drop(folder / "unet" / "diffusion_pytorch_model.safetensors"), "lack 2 tensors .first conv_out")])
def test_a_folder_that_is_not_whole_is_refused(recipe, copied, spoil, words):
    spoil(copied)
    with pytest.raises(RecipeError, match=words):
        start_run(recipe(weights=str(copied)), *connect("cpu"))


def edit(path, **facts):
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def drop(path):
    from safetensors.torch import load_file, save_file

    save_file({k: v for k, v in load_file(path).items() if not k.startswith("conv_out")}, path)


@pytest.mark.slow
def test_other_bad_beginnings_are_refused(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"give settings\.weights"):
        start_run(recipe(weights=""), *connect("cpu"))
    with pytest.raises(RecipeError, match=r"takes one to four polarisations .* has 5 bands"):
        start_run(recipe(bands=5), *connect("cpu"))
    trained = export_run(train(recipe(), tmp_path / "run", device="cpu"), tmp_path / "sure")
    with pytest.raises(ModelError, match="cannot begin a training without one"):
        start_run(recipe(weights=str(trained.folder), loss="mse"), *connect("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_other_polarisations_are_mixed_into_three(recipe, bands, tmp_path):
    package = export_run(train(recipe(bands), tmp_path / "run", device="cpu"), tmp_path / "model")
    path = translate_raster(str(tmp_path / f"sar{bands}.tif"), tmp_path / "o.tif", package,
                            compute=Compute(device="cpu"))
    with rasterio.open(path) as data:
        assert data.count == 3
    mix = {1: ((1,), (1,), (1,)), 3: ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
           4: ((1, 0, 0, 0), (0, 0.5, 0.5, 0), (0, 0, 0, 1))}[bands]  # HH, the mean of HV and VH, VV
    assert package.manifest.codec.mix == mix


@pytest.mark.slow
def test_a_codec_that_was_altered_is_refused(recipe, tmp_path):
    package = export_run(train(recipe(), tmp_path / "run", device="cpu"), tmp_path / "model")
    path = package.folder / "codec.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256 differs"):
        ModelPackage.load(package.folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"has no codec\.safetensors"):
        ModelPackage.load(package.folder)
