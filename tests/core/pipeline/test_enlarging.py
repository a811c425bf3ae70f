"""Laws of models that enlarge: the output's pixels cut the input's exactly, whatever the windows; and its averages can
be held to the input."""

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import ModelError, RasterError
from geoi2i.core.evaluation.quicklook import save_comparison
from geoi2i.core.inference.back_projection import held_to
from geoi2i.core.inference.steps import generator_table, schrodinger_bridge_table
from geoi2i.core.models.manifest import BandSpec, Manifest, NetworkSpec
from geoi2i.core.models.package import identity_package, save_package
from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes
from geoi2i.core.networks.unet import UNet, UNetSizes
from geoi2i.core.pipeline.planning import plan_on
from geoi2i.core.pipeline.translation import Translation
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject.warped_raster import finer
from geoi2i.core.reproject.warping import Warping
from geoi2i.core.run import Compute, Options, plan_translation, reproject_raster, translate_raster

NORTH_UP = Affine(30, 0, 500_000, 0, -30, 4_500_000)


def cpu(**options):
    return {"options": Options(**options), "compute": Compute(device="cpu", force=True), "overwrite": True}


def cubic(scale, bands=3):
    """A model that brings its input to finer pixels and does nothing else."""
    package = identity_package(bands)
    return type(package)(package.manifest.model_copy(update={"scale": Fraction(scale)}))


def read(path):
    with rasterio.open(path) as data:
        return data.read(), data.dataset_mask() != 0


def smooth(bands=3, height=60, width=44, dtype="float32"):
    row, col = np.mgrid[:height, :width]
    waves = [np.sin(row / (3 + k)) + np.cos(col / (4 + k)) for k in range(bands)]
    return (100 + 40 * np.array(waves)).astype(dtype)


@pytest.mark.parametrize("scale, size, pixel", [(2, (120, 88), 15.0), (3, (180, 132), 10.0), ("5/2", (150, 110), 12.0)])
def test_the_output_cuts_the_input_s_pixels(make_raster, tmp_path, scale, size, pixel):
    path = translate_raster(make_raster(smooth()), tmp_path / "o.tif", cubic(scale), **cpu())
    with rasterio.open(path) as data:
        assert (data.height, data.width) == size and data.transform == Affine(pixel, 0, 500_000, 0, -pixel, 4_500_000)
        assert data.crs == "EPSG:32631" and data.nodata is None and data.dataset_mask().all()


def test_without_a_network_it_is_the_cubic_of_reprojection(make_raster, tmp_path):
    source = make_raster(smooth())
    made = translate_raster(source, tmp_path / "o.tif", cubic(3), **cpu())
    grid = finer(RasterSource.open(source), Fraction(3)).grid
    seen = reproject_raster(source, tmp_path / "r.tif", grid, Warping("cubic"), device="cpu")
    assert np.array_equal(read(made)[0], read(seen)[0])


def test_a_rotated_raster_and_one_without_a_system_are_enlarged_too(make_raster, tmp_path):
    for kind in ("rotated", "nowhere", "mars", "jupiter_graphic"):
        source = make_raster(kind)
        path = translate_raster(source, tmp_path / f"{kind}.tif", cubic(2), **cpu())
        with rasterio.open(path) as made, rasterio.open(source) as given:
            assert (made.height, made.width) == (2 * given.height, 2 * given.width)
            for corner in ((0, 0), (given.width, given.height)):
                assert np.allclose(made.transform * (2 * corner[0], 2 * corner[1]), given.transform * corner)


@pytest.mark.slow
def test_the_result_ignores_tiles_and_extents(make_raster, make_package, tmp_path):
    package = make_package(steps=3, minimum=0, maximum=200, scale="3")
    source = make_raster(smooth())
    whole, _ = read(translate_raster(source, tmp_path / "w.tif", package, **cpu(tile=4096)))
    tiled, _ = read(translate_raster(source, tmp_path / "t.tif", package, **cpu(tile=32)))
    assert np.abs(whole - tiled).max() < 1e-2
    # 30-metre pixels 4 to 11 across and 7 to 15 down, cut a little: whole pixels of the input are taken.
    left, top = NORTH_UP * (4.4, 7.2)
    right, bottom = NORTH_UP * (10.1, 14.9)
    path = translate_raster(source, tmp_path / "e.tif", package, **cpu(), bounds=(left, bottom, right, top))
    part, _ = read(path)
    assert part.shape == (3, 24, 21) and np.abs(part - whole[:, 21:45, 12:33]).max() < 1e-2


def test_holes_are_those_of_the_input_s_pixels(make_raster, make_package, tmp_path):
    mask = np.full((60, 44), 255, np.uint8)
    mask[10:20, 5:15] = 0
    source = make_raster(smooth(), mask=mask)
    _, valid = read(translate_raster(source, tmp_path / "o.tif", make_package(steps=1, scale="2"), **cpu()))
    assert np.array_equal(valid, np.kron(mask != 0, np.ones((2, 2), bool)))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 3])
def test_averages_are_held_to_the_input(make_raster, make_package, tmp_path, scale):
    mask = np.full((60, 44), 255, np.uint8)
    mask[10:20, 5:15] = 0
    source = make_raster(smooth(), mask=mask)
    package = make_package(steps=2, minimum=0, maximum=200, scale=str(scale))
    free, _ = read(translate_raster(source, tmp_path / "f.tif", package, **cpu(samples=2)))
    made, valid = read(translate_raster(source, tmp_path / "o.tif", package, **cpu(back_project=True, samples=2),
                                        uncertainty=tmp_path / "u.tif"))
    averages = made.reshape(3, 60, scale, 44, scale).mean((2, 4))
    assert np.abs(averages - smooth())[:, mask != 0].max() < 1e-3
    free_averages = free.reshape(3, 60, scale, 44, scale).mean((2, 4))
    assert np.abs(free_averages - smooth())[:, mask != 0].max() > 5
    # What is added is the same for all pixels of a block.
    added = made - free
    blocks = np.kron(added[:, ::scale, ::scale], np.ones((scale, scale)))
    assert np.allclose(added[:, valid], blocks[:, valid], atol=1e-3)
    assert read(tmp_path / "u.tif")[0][:, valid].std() > 0


@pytest.mark.slow
def test_held_rows_are_the_same_in_parts(make_raster, make_package):
    package = make_package(steps=2, minimum=0, maximum=200, scale="3", tile_px=32)
    plan = plan_translation(make_raster(smooth()), package, Options(back_project=True), Compute(device="cpu"))
    job = Translation(plan, Path("o.tif"))
    whole = np.concatenate([rows.pixels for rows, in job.rows((0, 180), lambda share: None)], 1)
    for part in ((0, 50), (50, 101), (101, 180), (44, 46)):
        pieces = [rows for rows, in job.rows(part, lambda share: None)]
        assert pieces[0].row == part[0]
        assert np.array_equal(np.concatenate([rows.pixels for rows in pieces], 1), whole[:, part[0] : part[1]])


def test_what_is_held_already_stays():
    values = torch.rand(2, 6, 9)
    averages = torch.nn.functional.avg_pool2d(values, 3)
    assert torch.allclose(held_to(values, averages, torch.ones(1, 1, 1, dtype=torch.bool), 3), values, atol=1e-6)
    known = torch.zeros(1, 2, 3, dtype=torch.bool)
    assert torch.equal(held_to(values, averages + 1, known, 3), values)


@pytest.mark.parametrize("facts, options, sentence", [
    ({}, {}, r"enlarges 1 times and makes band 0 .*, band 1 .*, band 2 .* of band 0 .*: leave --back-project out"),
    ({"scale": "5/2"}, {}, "enlarges 5/2 times"),
    ({"scale": "2", "pixel_size_m": 30}, {"match_grid": True}, "leave --match-model-grid out")])
def test_what_cannot_be_held_is_refused(make_raster, make_package, tmp_path, facts, options, sentence):
    with pytest.raises(RasterError, match=sentence):
        translate_raster(make_raster(smooth()), tmp_path / "o.tif", make_package(steps=1, **facts),
                         **cpu(back_project=True, **options))
    assert not (tmp_path / "o.tif").exists()


@pytest.mark.slow
def test_the_command_says_how_averages_agree(make_raster, tmp_path):
    """Blocks of the input's numbers, half as much again and two more: bias, error and correlation follow."""
    source = make_raster(smooth(1))
    network = ResnetGenerator(ResnetSizes(bands_in=1, bands_out=1, width=4, blocks=0, levels=0, style=0, embedding=8))
    torch.nn.init.zeros_(network.head.weight)
    with torch.no_grad():
        network.level.weight[:], network.level.bias[:] = 1.5, 2.0
    band = (BandSpec(name="grey", minimum=0, maximum=200),)
    save_package(tmp_path / "model", Manifest(
        name="m", title="t", licence="CC0-1.0", bands_in=band, bands_out=band, scale="2",
        network=NetworkSpec(name="resnet", sizes=dict(network.sizes)), table=generator_table(),
        normalise_in={"kind": "none"}, normalise_out={"kind": "none"}, margin_px=network.radius_px), network)
    done = subprocess.run([sys.executable, "-m", "geoi2i", "run", "-i", source, "-o", str(tmp_path / "o.tif"), "-m",
                           str(tmp_path / "model"), "--device", "cpu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = re.search(r"the input: grey off by ([0-9.]+) \(bias ([0-9.]+)\), correlation ([0-9]\.[0-9]+)", done.stderr)
    off, bias, correlation = map(float, said.groups())
    wanted = 0.5 * smooth(1).astype(float) + 2
    assert bias == pytest.approx(wanted.mean(), rel=0.02)
    assert off == pytest.approx(np.sqrt((wanted**2).mean()), rel=0.02)
    assert correlation > 0.98, "a cubic kernel sharpens what averages blur"


def test_bands_of_another_sensor_are_called_as_its(make_raster, make_package, tmp_path):
    """And those that are called alike before and after keep the input's name."""
    before, after = (tuple(BandSpec(name=name, minimum=0, maximum=200) for name in names)
                     for names in (("SR_B4", "SR_B3", "nir"), ("B4", "B3", "nir")))
    package = make_package(steps=1, minimum=0, maximum=200, bands_in=before, bands_out=after)
    source = make_raster(smooth(), names=("SR_B4", "SR_B3", "NIR"))
    with rasterio.open(translate_raster(source, tmp_path / "o.tif", package, **cpu())) as made:
        assert made.descriptions == ("B4", "B3", "NIR")


def test_a_preview_shows_the_source_on_the_result_s_pixels(make_raster, tmp_path):
    """Each pixel of the source as a block, and of an extent that part only."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (1, 12, 9), np.uint8)
    source = make_raster(pixels)
    extent = (*(NORTH_UP * (3, 12)), *(NORTH_UP * (9, 4)))
    for part, wanted in ((None, pixels[0]), (extent, pixels[0, 4:, 3:])):
        made = translate_raster(source, tmp_path / "o.tif", cubic(3, 1), **cpu(), bounds=part)
        save_comparison(tmp_path / "p.png", RasterSource.open(source), RasterSource.open(str(made)))
        shown = np.asarray(Image.open(tmp_path / "p.png"))[:, :, 0]
        height, width = 3 * wanted.shape[0], 3 * wanted.shape[1]
        assert np.array_equal(shown[:height, :width], np.kron(wanted, np.ones((3, 3), np.uint8)))
        assert np.array_equal(shown[-height:, -width:], read(made)[0][0])


def test_only_the_first_of_a_line_enlarges(make_package, tmp_path):
    make_package("first", steps=1)
    with pytest.raises(ModelError, match="only the first of a line may: set its scale to 1"):
        make_package("second", steps=1, scale="2", input_model="first")


def test_a_matched_raster_is_enlarged_from_the_model_s_pixels(make_raster, make_package, tmp_path):
    """30 m brought to 60 m, and from there to 20 m; and back to 30 m where that is wanted."""
    package = make_package(steps=1, scale="3", pixel_size_m=60)
    source = make_raster(smooth())
    with rasterio.open(translate_raster(source, tmp_path / "o.tif", package, **cpu(match_grid=True))) as data:
        assert (data.height, data.width, data.transform.a) == (90, 66, 20.0)
    path = translate_raster(source, tmp_path / "b.tif", package, **cpu(match_grid=True, restore_grid=True))
    with rasterio.open(path) as data:
        assert (data.height, data.width, data.transform.a) == (60, 44, 30.0)


def test_power_is_enlarged_and_held_in_decibels(make_raster, make_package, tmp_path):
    """A cubic kernel on power falls below zero beside a bright target; on decibels it does what it did in training."""
    specs = tuple(BandSpec(name=f"band {k}", unit="dB", minimum=-30, maximum=5) for k in range(3))
    package = cubic(3)
    package = type(package)(package.manifest.model_copy(update={"bands_in": specs, "bands_out": specs}))
    power = np.full((3, 24, 24), 10 ** -2.5, "float32")
    power[:, 12, 12] = 10.0
    as_power = make_raster(power, name="power.tif")
    as_decibels = make_raster(10 * np.log10(power), name="decibels.tif")
    for options in ({}, {"back_project": True}):
        wanted, _ = read(translate_raster(as_decibels, tmp_path / "a.tif", package, **cpu(**options)))
        found, _ = read(translate_raster(as_power, tmp_path / "b.tif", package, **cpu(to_db=True, **options)))
        assert np.abs(found - wanted).max() < 1e-3 and found.min() > -35
    averages = found.reshape(3, 24, 3, 24, 3).mean((2, 4))
    assert np.abs(averages - 10 * np.log10(power)).max() < 1e-3


def test_results_of_other_bands_are_not_held_to_the_input(make_raster, tmp_path):
    package = cubic(2)
    others = tuple(BandSpec(name=name, minimum=0, maximum=1) for name in ("red", "green", "blue"))
    package = type(package)(package.manifest.model_copy(update={"bands_out": others}))
    with pytest.raises(RasterError, match=r"makes red .0 to 1., .* of band 1 .0 to 1., .*: leave --back-project out"):
        translate_raster(make_raster(smooth()), tmp_path / "o.tif", package, **cpu(back_project=True))
    # Bands of the same names in other numbers: held to the input's, they would be no result.
    stretched = tuple(band.model_copy(update={"minimum": 800, "maximum": 9000}) for band in package.manifest.bands_in)
    package = type(package)(package.manifest.model_copy(update={"bands_out": stretched}))
    with pytest.raises(RasterError, match=r"makes band 1 .800 to 9000., .* of band 1 .0 to 1., "):
        translate_raster(make_raster(smooth()), tmp_path / "o.tif", package, **cpu(back_project=True))


@pytest.mark.slow
def test_power_is_brought_to_decibels_only_when_told(make_raster, make_package, tmp_path):
    specs = tuple(BandSpec(name=f"band {k}", unit="dB", minimum=-30, maximum=5) for k in range(3))
    package = make_package(steps=1, minimum=-30, maximum=5, bands_in=specs, pixel_size_m=20)
    power = np.random.default_rng(0).gamma(2, 0.1, (3, 60, 44)).astype("float32")
    hole = np.full((60, 44), 255, np.uint8)
    hole[20:30, 10:20] = 0
    as_power = make_raster(power, name="power.tif", mask=hole)
    as_decibels = make_raster(10 * np.log10(power), name="decibels.tif", mask=hole)
    wanted, valid = read(translate_raster(as_decibels, tmp_path / "a.tif", package, **cpu()))
    found, _ = read(translate_raster(as_power, tmp_path / "b.tif", package, **cpu(to_db=True)))
    assert np.abs(found - wanted)[:, valid].max() < 1e-3
    with rasterio.open(tmp_path / "b.tif") as data:
        assert "--to-db" in data.tags()["GEOI2I_COMMAND"] and data.dtypes[0] == "float32"
    # Integers of a scale, with a nodata value that is no power: seen in decibels before anything else is done.
    counts = np.maximum(1, np.round(power * 1e3)).astype("uint16")
    counts[:, 20:30, 10:20] = 0
    stored = make_raster(counts, name="counts.tif", nodata=0)
    with rasterio.open(stored, "r+") as data:
        data.scales = (1e-3,) * 3
    again = make_raster(10 * np.log10(np.maximum(counts, 1) * 1e-3).astype("float32"), name="again.tif", mask=hole)
    wanted, _ = read(translate_raster(again, tmp_path / "d.tif", package, **cpu(match_grid=True)))
    found, valid = read(translate_raster(stored, tmp_path / "e.tif", package, **cpu(match_grid=True, to_db=True)))
    assert np.abs(found - wanted)[:, valid].max() < 1e-3 and not valid[32:43, 17:28].any()
    with pytest.raises(RasterError, match=r"looks like power, .*takes decibels: convert it with --to-db"):
        translate_raster(as_power, tmp_path / "c.tif", package, **cpu())
    with pytest.raises(RasterError, match=r"has negative numbers .*so it is not power"):
        translate_raster(as_decibels, tmp_path / "c.tif", package, **cpu(to_db=True))
    with pytest.raises(RasterError, match="takes no decibels"):
        translate_raster(as_power, tmp_path / "c.tif", make_package("other", steps=1), **cpu(to_db=True))
    assert not (tmp_path / "c.tif").exists()


def test_a_model_runs_with_the_steps_that_it_has(make_raster, make_package, tmp_path):
    tables = [schrodinger_bridge_table(count, tau=0.1) for count in (1, 4)]
    package = make_package(steps=3, minimum=0, maximum=200, presets=tuple(tables))
    plain = make_package("plain", steps=4, minimum=0, maximum=200)
    source = make_raster(smooth())
    wanted, _ = read(translate_raster(source, tmp_path / "a.tif", plain, **cpu()))
    found = translate_raster(source, tmp_path / "b.tif", package, **cpu(steps=4))
    assert np.array_equal(read(found)[0], wanted)
    with rasterio.open(found) as data:
        assert "--steps 4" in data.tags()["GEOI2I_COMMAND"]
    with pytest.raises(ModelError, match="has samplers of 1, 3, 4 steps, not of 7"):
        translate_raster(source, tmp_path / "c.tif", package, **cpu(steps=7))
    with pytest.raises(ValueError, match="a preset shows the network other bands"):
        make_package("odd", steps=1, presets=(tables[1].model_copy(update={"concatenate_source": True}),))


def test_a_network_with_attention_has_windows_of_one_size(make_raster, tmp_path):
    torch.manual_seed(0)
    made = UNet(UNetSizes(bands_in=1, bands_out=1, width=8, blocks=1, levels=1, attention=1, embedding=8))
    band = (BandSpec(name="grey", minimum=0, maximum=200),)
    reach = {"kind": "range", "minimum": [0], "maximum": [200]}
    manifest = Manifest(
        name="m", title="t", licence="CC0-1.0", bands_in=band, bands_out=band,
        network=NetworkSpec(name="unet", sizes=dict(made.sizes)), table=generator_table(), normalise_in=reach,
        normalise_out=reach, multiple_of=made.stride, tile_px=32, overlap_px=16, attends=True)
    package = save_package(tmp_path / "model", manifest, made)
    source = make_raster(smooth(1))
    with pytest.raises(ModelError, match="looks at its whole window of 32 pixels"):
        translate_raster(source, tmp_path / "o.tif", package, **cpu(tile=64))
    assert plan_on(RasterSource.open(source), (), package, Options()).tiling.fixed
    with pytest.raises(ModelError, match="set attends to true"):
        save_package(tmp_path / "sly", manifest.model_copy(update={"attends": False, "margin_px": 8}), made)
    assert read(translate_raster(source, tmp_path / "o.tif", package, **cpu()))[0].shape == (1, 60, 44)
