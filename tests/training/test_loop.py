"""Windows come from real grids; a run resumes to the same weights; what it exports runs."""

import json
import os
import signal

import numpy as np
import pytest
import rasterio
import torch
import transformers
from affine import Affine
from geoi2i.core.errors import Cancelled, DeviceError, ModelError, RecipeError
from geoi2i.core.grid import Window
from geoi2i.core.models.normalisers import NoNormaliser, PercentileNormaliser
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Options, translate_raster
from geoi2i.training import loop
from geoi2i.training.data import open_domains
from geoi2i.training.export import export_run
from geoi2i.training.log import iterate_log
from geoi2i.training.loop import _rate, train
from geoi2i.training.pool import ImagePool
from geoi2i.training.processes import Processes
from geoi2i.training.recipe import Augment, Rasters, describe_bands, find_rasters, make_recipe
from geoi2i.training.state import memories_of, restore_run, save_run, start_run
from geoi2i.training.windows import WindowSampler
from lightning_fabric import Fabric

JUPITER = rasterio.crs.CRS.from_authority("IAU_2015", "59902")


def write(path, pixels, degrees=1.0, north=64.0, nodata=None):
    with rasterio.open(path, "w", driver="GTiff", count=pixels.shape[0], height=pixels.shape[1], nodata=nodata,
                       width=pixels.shape[2], dtype=pixels.dtype, crs=JUPITER,
                       transform=Affine(degrees, 0, 0, 0, -degrees, north)) as out:
        out.write(pixels)
    return str(path)


@pytest.fixture
def recipe(tmp_path):
    rng = np.random.default_rng(0)
    source = rng.integers(60, 200, (3, 128, 96), np.uint8)
    write(tmp_path / "a.tif", source)
    write(tmp_path / "b.tif", source[:, ::-1, 16:] // 2 + 20, degrees=2.0, north=100.0)
    content = {"name": "small", "method": "sp_i2i", "data": {
        "source": {"paths": [str(tmp_path / "a.tif")]}, "target": {"paths": [str(tmp_path / "b.tif")]},
        "window_px": 16, "batch": 2},
        "network": {"name": "resnet", "sizes": {"width": 4, "blocks": 1, "style": 4, "embedding": 8}},
        "budget": {"steps": 6, "log_every": 2, "checkpoint_every": 3, "preview_every": 3},
        "settings": {"steps": 3, "levels": 2, "critic_width": 4, "critic_levels": 1, "gate_width": 4}}
    return describe_bands(make_recipe(content, {}, "test"))


@pytest.mark.slow
def test_a_resumed_run_ends_in_the_same_weights_bit_for_bit(recipe, tmp_path):
    augment = Augment(turns=True, blur=1.0, gain=0.1, offset=0.1, noise=0.05)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"augment": augment})})
    whole = train(recipe, tmp_path / "whole", device="cpu")
    interrupted = tmp_path / "cut"

    class Stop(Exception):
        pass

    def stop(step, total, figures):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        train(recipe, interrupted, device="cpu", report=stop)
    resumed = train(recipe, interrupted, device="cpu", resume=True)
    for name, network in whole.networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, resumed.networks[name].state_dict()[key]), (name, key)
    for key, value in whole.ema.state_dict().items():
        assert torch.equal(value, resumed.ema.state_dict()[key])
        assert torch.equal(whole.best_state[key], resumed.best_state[key])
    assert whole.best == resumed.best
    assert [line["step"] for line in iterate_log(interrupted / "log.jsonl")] == [0, 2, 3, 4, 6]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_a_signal_ends_has_a_checkpoint_and_resumes_bit_for_bit(recipe, tmp_path, number):
    whole = train(recipe, tmp_path / "whole", device="cpu")

    def interrupt(step, total, figures):
        if step == 2:
            os.kill(os.getpid(), number)  # it comes in the middle of what follows

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Cancelled, match="stopped at step 3, whose checkpoint is written: continue with --resume"):
        train(recipe, tmp_path / "cut", device="cpu", report=interrupt)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    resumed = train(recipe, tmp_path / "cut", device="cpu", resume=True)
    assert resumed.step == 6
    for key, value in whole.ema.state_dict().items():
        assert torch.equal(value, resumed.ema.state_dict()[key])
        assert torch.equal(whole.best_state[key], resumed.best_state[key])


def test_training_changes_every_player_and_leaves_a_preview(recipe, tmp_path):
    before = train(recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"steps": 1})}),
                   tmp_path / "one", device="cpu")
    after = train(recipe, tmp_path / "six", device="cpu")
    for name, network in after.networks.items():
        old = before.networks[name].state_dict()
        assert any(not torch.equal(v, old[k]) for k, v in network.state_dict().items()), name
    assert (tmp_path / "six" / "previews" / "step-0000006.png").stat().st_size > 0


def test_the_best_state_ships_where_the_recipe_says_so(recipe, tmp_path):
    """Whichever that is here; the log tells the distances, and both packages run the state they should."""
    from geoi2i.training.state import shipped

    run = train(recipe, tmp_path / "run", device="cpu")
    logged = [line["colour_distance"] for line in iterate_log(tmp_path / "run" / "log.jsonl")
              if "colour_distance" in line]
    assert len(logged) == 3 and run.best == pytest.approx(min(logged), abs=1e-6)
    assert shipped(run) is run.ema
    run.best_state = {key: value + 1 for key, value in run.ema.state_dict().items()}
    run.recipe = recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"ships": "best"})})
    for key, value in shipped(run).state_dict().items():
        assert torch.equal(value, run.best_state[key])


def test_colour_distance_is_blind_to_detail_and_sees_which_colours_come_together():
    from geoi2i.training.preview import colour_distance

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 16, 16, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3)
    detail = torch.randn(images.shape, generator=generator)
    detail = detail - torch.nn.functional.avg_pool2d(detail, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert colour_distance(images + detail, images) < 1e-3
    # The same histogram in every band, but red and blue no longer belong together.
    swapped = images.clone()
    swapped[:, 0] = images[:, 0].flip(0)
    same = images.clone()
    same[:, 2] = same[:, 0]
    broken = same.clone()
    broken[:, 2] = same[:, 0].flip(0)
    assert colour_distance(broken, same) > 10 * colour_distance(swapped, images)


def test_an_exported_run_verifies_and_translates(recipe, tmp_path):
    package = export_run(train(recipe, tmp_path / "run", device="cpu"), tmp_path / "small")
    assert package.verify() <= 1e-4
    assert package.manifest.body == "Jupiter"
    out = translate_raster(str(tmp_path / "a.tif"), tmp_path / "out.tif", package, Options())
    with rasterio.open(out) as data:
        assert data.shape == (128, 96) and data.count == 3


def test_a_run_of_another_recipe_is_not_resumed(recipe, tmp_path):
    train(recipe, tmp_path / "run", device="cpu")
    other = recipe.model_copy(update={"seed": 5})
    with pytest.raises(RecipeError, match="another recipe"):
        train(other, tmp_path / "run", device="cpu", resume=True)
    with pytest.raises(RecipeError, match="--resume"):
        train(recipe, tmp_path / "run", device="cpu")


def test_a_checkpoint_that_knows_fewer_keys_is_resumed(recipe, tmp_path):
    """What a file of before does not name had the default then, too."""
    train(recipe, tmp_path / "run", device="cpu")
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    old = json.loads(state["recipe"])
    for key in ("weight_decay", "warmup_steps", "decay"):
        del old["optimiser"][key]
    torch.save(state | {"recipe": json.dumps(old)}, path)
    assert train(recipe, tmp_path / "run", device="cpu", resume=True).step == 6


def test_a_run_may_go_on_at_another_rate(recipe, tmp_path):
    train(recipe, tmp_path / "run", device="cpu")
    rates = recipe.optimiser.model_copy(update={"lr": 1e-5, "weight_decay": 0.1})
    other = recipe.model_copy(update={"optimiser": rates, "budget": recipe.budget.model_copy(update={"steps": 7})})
    run = train(other, tmp_path / "run", device="cpu", resume=True)
    assert run.step == 7
    for optimiser in run.optimisers.values():
        assert {(group["base_lr"], group["weight_decay"]) for group in optimiser.param_groups} <= {
            (1e-5 * factor * share, 0.1) for factor in (1.0, *run.method.lr_factor.values())
            for share in (1.0, 0.2)}
        assert all(int(state["step"]) > 1 for state in optimiser.state.values())


def test_weights_that_are_no_numbers_are_not_kept(recipe, tmp_path, monkeypatch):
    """A loss is a number still when the step that it makes is none."""
    train(recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"steps": 3})}), tmp_path / "run",
          device="cpu")
    kept = (tmp_path / "run" / "checkpoint.pt").read_bytes()

    def diverge(run, batch, fabric, step=loop.train_step):
        parts = step(run, batch, fabric)
        if run.step == 5:
            next(run.networks["generator"].parameters()).data.fill_(float("inf"))
        return parts

    monkeypatch.setattr(loop, "train_step", diverge)
    quiet = recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"log_every": 100, "steps": 8,
                                                                                 "checkpoint_every": 6})})
    with pytest.raises(RecipeError, match="weights of generator are not finite at step 6: the last checkpoint is kept"):
        train(quiet, tmp_path / "run", device="cpu", resume=True)
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == kept


def test_what_stands_in_the_way_of_a_run_is_named(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="file cannot be a folder"):
        train(recipe, tmp_path / "file", device="cpu")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(RecipeError, match=r"checkpoint.pt cannot be read .* it is damaged"):
        train(recipe, tmp_path / "run", device="cpu", resume=True)
    with pytest.raises(DeviceError, match="nonsense is not a device"):
        train(recipe, tmp_path / "other", device="nonsense")


@pytest.mark.slow
@pytest.mark.parametrize("change, words", [
    ({"bands": {"normalise_in": {"kind": "range", "minimum": [0], "maximum": [255]}}}, "a normaliser has 1 bands"),
    ({"package": {"tile_px": 65536}, "network": {"sizes": {"width": 256}}}, "lower its tile_px")])
def test_a_run_whose_model_could_not_be_is_not_begun(recipe, tmp_path, change, words):
    content = json.loads(recipe.model_dump_json())
    for section, facts in change.items():
        content[section] = {**content[section], **facts}
    with pytest.raises((RecipeError, ModelError), match=words):
        train(make_recipe(content, {}, "test"), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_ranges_that_are_upside_down_are_named(recipe):
    content = json.loads(recipe.model_dump_json())
    content["bands"] = {"source": [{"name": "a", "minimum": 5, "maximum": 1}] * 3}
    with pytest.raises(RecipeError, match=r"ranges of bands.source do not give a normalisation"):
        describe_bands(make_recipe(content, {}, "test"))


def test_bands_of_training_go_by_their_names(tmp_path):
    pixels = np.stack([np.full((32, 32), value, "uint8") for value in (50, 100, 200)])
    for name, order in (("a", (0, 1, 2)), ("b", (2, 1, 0))):
        path = write(tmp_path / f"{name}.tif", pixels[list(order)])
        with rasterio.open(path, "r+") as data:
            data.descriptions = [("red", "green", "blue")[k] for k in order]
    write(tmp_path / "t.tif", pixels)
    content = {"name": "small", "method": "cyclegan", "data": {
        "source": {"paths": [str(tmp_path / "a.tif"), str(tmp_path / "b.tif")]},
        "target": {"paths": [str(tmp_path / "t.tif")]}, "window_px": 16}}
    sampler = open_domains(describe_bands(make_recipe(content, {}, "test"))).source
    for which in (0, 1):
        picks = np.flatnonzero(sampler.candidates.raster == which)[:1]
        assert ((sampler.windows(picks)[0, :, 0, 0] + 1) * 127.5).tolist() == pytest.approx([50, 100, 200], abs=1e-3)


def test_without_a_normaliser_the_network_sees_numbers_as_they_are_stored(tmp_path):
    """As it will when the model runs, whatever scale and offset the file states."""
    path = write(tmp_path / "a.tif", np.full((1, 32, 32), 800, "uint16"))
    with rasterio.open(path, "r+") as data:
        data.scales = (1e-4,)
    sampler = WindowSampler([RasterSource.open(path)], NoNormaliser(), 16, 0.5, ())
    assert set(sampler.windows(np.array([0])).flatten().tolist()) == {800.0}
    affine, fill = sampler._ranges[0]
    assert affine is None and fill.tolist() == pytest.approx([800])


def test_a_file_is_taken_whatever_pattern_its_name_would_be(tmp_path):
    path = write(tmp_path / "br[1].tif", np.ones((1, 8, 8), "uint8"))
    assert find_rasters(Rasters(paths=(path, path)), "source") == [path, path], "and as often as it is named"


def test_every_process_finds_its_own_memories_again(recipe, tmp_path):
    """Pools of images are each process's own; the checkpoint holds all, in order of rank."""
    content = recipe.model_dump() | {"method": "cyclegan", "settings": {"critic_width": 4, "critic_levels": 1}}
    content["network"]["sizes"].pop("style"), content.pop("package")
    recipe = describe_bands(make_recipe(content, {}, "test"))
    fabric, memories = Fabric(accelerator="cpu"), []
    for rank in range(2):
        run = start_run(recipe, fabric, Processes(rank, 2))
        for pool in (network for network in run.networks.values() if isinstance(network, ImagePool)):
            pool(torch.full((1, 3, 4, 4), float(rank)))
        memories.append(memories_of(run))
    save_run(run, memories, tmp_path / "checkpoint.pt")
    for rank in range(2):
        run = start_run(recipe, fabric, Processes(rank, 2))
        restore_run(run, tmp_path / "checkpoint.pt")
        pools = [network for network in run.networks.values() if isinstance(network, ImagePool)]
        assert pools and all(float(pool.images[0].mean()) == rank for pool in pools)


@pytest.mark.parametrize("side, words", [
    (18, r"resnet cannot be trained on windows of 18 pixels: .* a multiple of 4, at least 8"), (12, None)])
def test_windows_must_suit_the_network(recipe, tmp_path, side, words):
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"window_px": side})})
    if words is None:
        assert start_run(recipe, Fabric(accelerator="cpu"))
        return
    with pytest.raises(RecipeError, match=words):
        train(recipe, tmp_path / "run", device="cpu")


@pytest.mark.parametrize("after, wanted", [("uint16", "uint16"), ("uint8", "same"), ("int32", "float32")])
def test_a_model_writes_numbers_that_hold_its_target(tmp_path, after, wanted):
    content = {"name": "small", "method": "pix2pix", "data": {
        "source": {"paths": [write(tmp_path / "a.tif", np.ones((1, 32, 32), "uint8"))]},
        "target": {"paths": [write(tmp_path / "b.tif", np.arange(1024, dtype=after).reshape(1, 32, 32))]}}}
    assert describe_bands(make_recipe(content, {}, "test")).bands.dtype == wanted


@pytest.mark.parametrize("plan, schedule", [
    ({"warmup_steps": 5, "decay": "cosine", "decay_fraction": 1}, transformers.get_cosine_schedule_with_warmup),
    ({"warmup_steps": 5, "decay_fraction": 1}, transformers.get_linear_schedule_with_warmup)])
def test_rates_follow_the_schedules_that_the_papers_used(recipe, plan, schedule):
    recipe = recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"steps": 40}),
                                       "optimiser": recipe.optimiser.model_copy(update=plan)})
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    peer = schedule(optimiser, 5, 40)
    rates = []
    for _ in range(41):
        rates.append(peer.get_last_lr()[0])
        optimiser.step()
        peer.step()
    for step in range(40):  # theirs begin with a step of rate 0, which changes nothing
        assert _rate(recipe, step) == pytest.approx(rates[step + (step < 5)], abs=1e-12), step


def test_weights_decay_by_the_rate_apart_from_the_gradient(recipe):
    """A step without a gradient: what is left is 1 - rate * decay of each weight."""
    recipe = recipe.model_copy(update={"optimiser": recipe.optimiser.model_copy(update={"weight_decay": 0.25})})
    run = start_run(recipe, Fabric(accelerator="cpu"))
    (optimiser, *_), weights = run.optimisers.values(), [p for n in run.networks.values() for p in n.parameters()]
    mine = [p for group in optimiser.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in mine]
    for p in weights:
        p.grad = torch.zeros_like(p)
    optimiser.step()
    for old, new in zip(before, mine):
        assert torch.allclose(new, old * (1 - 0.25 * recipe.optimiser.lr), rtol=0, atol=1e-8)


def test_the_same_seed_and_step_draw_the_same_windows(recipe):
    from geoi2i.training.data import open_domains

    first, second = (open_domains(recipe).batch(recipe, 7) for _ in range(2))
    other = open_domains(recipe).batch(recipe, 8)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["source"], other["source"])
    assert not torch.equal(first["source"], first["source2"])


def test_targets_can_be_seen_on_the_grid_of_the_sources(recipe):
    """The target has pixels of 2 degrees, the source of 1; a window then shows the target twice as large."""
    from geoi2i.core.reproject.warped_raster import resampled_like
    from geoi2i.training.data import open_domains

    matched = recipe.model_copy(update={"data": recipe.data.model_copy(update={"match_grid": True})})
    domains = open_domains(matched)
    seen, source = domains.target.rasters[0], domains.source.rasters[0]
    assert (seen.grid.height, seen.grid.width) == (256, 160) and seen.grid.pixel_size_m == source.grid.pixel_size_m
    again = resampled_like(seen.raster, source.grid)
    whole = again.read(Window(0, 0, 256, 160))
    part = again.read(Window(100, 30, 16, 16))
    assert np.array_equal(part.pixels, whole.pixels[:, 100:116, 30:46])
    assert domains.batch(matched, 0)["target"].shape == (2, 3, 16, 16)


def test_windows_avoid_holes_and_come_from_their_latitude_zone(tmp_path):
    # Pixel value = latitude + 100, so a window tells where it came from; the north is nodata.
    latitude = 64 - np.arange(128) - 0.5
    pixels = np.repeat((latitude + 100)[None, :, None], 40, 2).astype(np.float32)
    pixels[:, :20] = -1
    path = write(tmp_path / "zones.tif", pixels, nodata=-1)
    sampler = WindowSampler([RasterSource.open(path)], None, 8, 1.0, (-60.0, -20.0, 20.0, 60.0))
    generator = torch.Generator().manual_seed(0)
    picks = sampler.pick(64, generator)
    windows, zones = sampler.windows(picks), sampler.candidates.zone[picks]
    assert windows.min() > 0, "a hole was drawn"
    for zone in (0, 1, 2):
        drawn = sampler.windows(sampler.pick(16, generator, np.full(16, zone)))
        centre = drawn[:, 0, 3:5].mean((1, 2)) - 100
        assert ((centre >= (-60, -20, 20)[zone]) & (centre < (-20, 20, 60)[zone])).all()
    assert set(zones) == {0, 1, 2}


def test_percentiles_are_each_raster_s_own_and_only_of_sources(tmp_path, recipe):
    """Twice and seven times the same numbers are the same windows; what a model gives has one range for all."""
    pixels = np.random.default_rng(1).integers(1, 30, (3, 64, 64)).astype(np.uint8)
    rasters = [RasterSource.open(write(tmp_path / f"{k}.tif", k * pixels)) for k in (2, 7)]
    sampler = WindowSampler(rasters, PercentileNormaliser(low=5, high=95), 64, 1.0, ())
    one, two = sampler.windows([0, 1])
    assert torch.allclose(one, two, atol=1e-5)
    low, high = np.percentile(pixels, (5, 95), axis=(1, 2))[:, :, None, None]
    assert np.allclose(one, 2 * (pixels - low) / (high - low) - 1, atol=1e-5)
    bands = recipe.bands.model_copy(update={"normalise_out": PercentileNormaliser()})
    with pytest.raises(RecipeError, match="normalise_out of kind range"):
        train(recipe.model_copy(update={"bands": bands}), tmp_path / "run", device="cpu")


def test_windows_without_enough_valid_pixels_are_refused_in_a_sentence(tmp_path):
    path = write(tmp_path / "empty.tif", np.eye(40, dtype=np.uint8)[None] * 9, nodata=0)
    with pytest.raises(RecipeError, match="min_valid"):
        WindowSampler([RasterSource.open(path)], None, 16, 0.9, ())


def test_narrow_arithmetic_trains_as_wide_does(recipe, tmp_path):
    """bf16 has three digits: the losses of a few steps agree to that, weights stay fp32 and differ."""
    narrow = recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"precision": "bf16"})})
    runs = [train(each, tmp_path / each.budget.precision, device="cpu") for each in (recipe, narrow)]
    logs = [list(iterate_log(tmp_path / name / "log.jsonl")) for name in ("fp32", "bf16")]
    for wide, less in zip(*logs):
        for key in wide.keys() - {"seconds", "step"}:
            assert less[key] == pytest.approx(wide[key], rel=0.1, abs=0.02), key
    weights = [run.networks["generator"].state_dict() for run in runs]
    assert all(value.dtype == torch.float32 for value in weights[1].values())
    assert any(not torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_the_level_path_is_exact_in_narrow_arithmetic():
    from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes
    from geoi2i.core.networks.unet import UNet, UNetSizes

    image = 1000 + torch.rand(1, 2, 16, 16)
    for kind, sizes in ((ResnetGenerator, ResnetSizes), (UNet, UNetSizes)):
        network = kind(sizes(bands_in=2, bands_out=2, width=4, blocks=1, levels=1, style=0, embedding=8))
        torch.nn.init.zeros_(network.head.weight)
        with torch.autocast("cpu", torch.bfloat16):
            made = network(image, torch.zeros(1), None)
        assert made.dtype == torch.float32 and torch.allclose(made, image, rtol=1e-6)
