"""Laws of closed forms: what they recover exactly, what must not leak into them, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import RecipeError
from geoi2i.core.networks.closed_form import Curves, CurvesSizes, LinearFilter, LinearSizes, at_centres, values
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Options, translate_raster
from geoi2i.training import sweeps
from geoi2i.training.fit import KINDS, PAIRED, fit, fit_recipe
from rasterio.warp import reproject

pytestmark = pytest.mark.slow

PLACE = Affine(30, 0, 500_000, 0, -30, 4_500_000)
MIX = np.array([[1.2, -0.3, 0.1], [0.2, 0.8, 0.0], [-0.1, 0.4, 0.5]])


def scene(seed=0, bands=3, height=130, width=110):
    """Correlated bands (C,h,w), smooth in space."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(bands, height + 4, width + 4))
    smooth = sum(noise[:, y : y + height, x : x + width] for y in range(5) for x in range(5)) / 5
    mixed = np.eye(bands) + 0.4 * generator.normal(size=(bands, bands))
    return 100 + 20 * np.tensordot(mixed, smooth, 1)


def write(path, pixels, transform=PLACE, **profile):
    with rasterio.open(path, "w", driver="GTiff", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2],
                       dtype="float64", crs="EPSG:32631", transform=transform, **profile) as out:
        out.write(pixels)
    return str(path)


def solved(tmp_path, kind, source, target, overrides=None, **settings):
    """(package, fit) of rasters or of pixels."""
    sides = [[each] if isinstance(each, str) else [write(tmp_path / f"{name}.tif", each)]
             if isinstance(each, np.ndarray) else each for name, each in (("a", source), ("b", target))]
    recipe = fit_recipe(kind, "model", *map(tuple, sides), {"bands.dtype": "float32", **(overrides or {})})
    return fit(kind, recipe, tmp_path / f"model{len(list(tmp_path.glob('model*')))}", **settings)


def applied(tmp_path, package, path, **options):
    out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}.tif"
    translate_raster(path, out, package, Options(**options))
    with rasterio.open(out) as data:
        return data.read().astype(float)


def colours(pixels):
    flat = pixels.reshape(len(pixels), -1)
    return flat.mean(1), np.cov(flat, bias=True)


@pytest.mark.parametrize("kind, settings", [
    ("linear", {}), ("linear", {"sizes": {"neighbourhood": 5, "squares": 1, "mean_1": 7}}), ("moments", {}),
    ("transport", {}), ("histogram", {}), ("histogram", {"rounds": 4}), ("local", {})])
def test_a_raster_is_mapped_to_itself(tmp_path, kind, settings):
    pixels = scene()
    package, _ = solved(tmp_path, kind, pixels, pixels, **settings)
    made = applied(tmp_path, package, str(tmp_path / "a.tif"))
    assert np.abs(made - pixels).max() < 1e-6 * np.ptp(pixels) + 2e-5  # and the rounding of float32


@pytest.mark.parametrize("block", [512, 48])
@pytest.mark.parametrize("sizes", [{}, {"neighbourhood": 3}, {"squares": 1, "mean_1": 5}])
def test_an_affine_map_is_recovered_whatever_the_blocks(tmp_path, monkeypatch, block, sizes):
    monkeypatch.setattr(sweeps, "_BLOCK_PX", block)
    monkeypatch.setattr(sweeps, "_STRIP_VALUES", 300 * block)
    source = scene()
    target = np.tensordot(MIX, source, 1) + np.array([5.0, -3, 40])[:, None, None]
    package, _ = solved(tmp_path, "linear", source, target, sizes=sizes)
    made = applied(tmp_path, package, str(tmp_path / "a.tif"))
    assert np.abs(made - target).max() < 1e-5 * np.ptp(target)


def test_a_filter_with_squares_is_recovered(tmp_path):
    source = scene(bands=2)
    shifted = np.roll(source, (1, -1), (1, 2))
    target = np.stack([0.5 * source[0] + 0.5 * shifted[1] + 1e-3 * source[0] * source[1], shifted[0]])
    package, _ = solved(tmp_path, "linear", source, target, sizes={"neighbourhood": 3, "squares": 1})
    made = applied(tmp_path, package, str(tmp_path / "a.tif"))[:, 2:-2, 2:-2]
    assert np.abs(made - target[:, 2:-2, 2:-2]).max() < 0.02 * target.std()


def test_terms_are_chosen_on_rows_that_were_held_out(tmp_path):
    source = scene(bands=2)
    _, made = solved(tmp_path, "linear", source, np.roll(source, (2, 1), (1, 2)))
    names, errors = zip(*made.table)
    assert names[0].startswith("5 x 5 neighbourhood") and list(errors) == sorted(errors)
    _, made = solved(tmp_path, "linear", source, 2 * source + np.random.default_rng(1).normal(0, 9, source.shape))
    assert made.table[0][1] <= dict(made.table)["bands"] <= 1.01 * made.table[0][1]


@pytest.mark.parametrize("scale", [2, 3])
def test_each_place_in_a_source_pixel_has_its_own_coefficients(tmp_path, scale):
    source = scene(bands=2, height=60, width=50)
    write(tmp_path / "s.tif", source)
    gains = np.linspace(0.5, 1.5, scale * scale).reshape(scale, scale)
    target = np.kron(source, gains)
    write(tmp_path / "t.tif", target, PLACE @ Affine.scale(1 / scale))
    package, _ = solved(tmp_path, "linear", str(tmp_path / "s.tif"), str(tmp_path / "t.tif"),
                        {"data.scale": str(scale)}, sizes={"neighbourhood": 3})
    made = applied(tmp_path, package, str(tmp_path / "s.tif"))
    error = np.abs(made - target)[:, 2 * scale : -2 * scale, 2 * scale : -2 * scale]
    # An even number of pixels has none in the middle: what is seen there is already blurred.
    assert made.shape == target.shape and error.max() < (1e-4 if scale % 2 else 0.1) * np.ptp(target)


def test_transport_maps_mean_and_covariance(tmp_path):
    source, target = scene(1), scene(2, height=90)
    package, _ = solved(tmp_path, "transport", source, target)
    made = applied(tmp_path, package, str(tmp_path / "a.tif"))
    for mine, theirs in zip(colours(made), colours(target)):
        assert np.allclose(mine, theirs, rtol=1e-4, atol=1e-3)
    slope = np.linalg.lstsq((source - source.mean((1, 2), keepdims=True)).reshape(3, -1).T,
                            (made - made.mean((1, 2), keepdims=True)).reshape(3, -1).T, rcond=None)[0]
    # The one that moves colours least is symmetric and positive definite.
    assert np.allclose(slope, slope.T, atol=1e-4) and np.linalg.eigvalsh(slope).min() > 0


def test_moments_and_histograms_meet_the_target_s(tmp_path):
    source, target = scene(1), np.exp(scene(2) / 40)
    package, _ = solved(tmp_path, "moments", source, target)
    made = applied(tmp_path, package, str(tmp_path / "a.tif")).reshape(3, -1)
    assert np.allclose(made.mean(1), target.mean((1, 2)), rtol=1e-4)
    assert np.allclose(made.std(1), target.std((1, 2)), rtol=1e-4)
    package, _ = solved(tmp_path, "histogram", source, target)
    made = np.sort(applied(tmp_path, package, str(tmp_path / "a.tif")).reshape(3, -1))
    assert np.abs(made - np.sort(target.reshape(3, -1))).mean() < 0.01 * target.std()


def test_rounds_of_curves_bring_the_joint_distribution_nearer(tmp_path):
    source, target = scene(1), scene(2)
    apart = {}
    for rounds in (1, 12):
        package, _ = solved(tmp_path, "histogram", source, target, rounds=rounds)
        made = applied(tmp_path, package, str(tmp_path / "a.tif"))
        apart[rounds] = np.abs(colours(made)[1] - colours(target)[1]).max()
    assert apart[12] < 0.2 * apart[1]


def test_curves_are_monotone_and_go_on_beyond_their_ends(tmp_path):
    source = np.round(scene(1) / 5) * 5  # few values, so that quantiles coincide
    package, _ = solved(tmp_path, "histogram", source, scene(2))
    network = package.network()
    ramp = torch.linspace(-9, 9, 4001)[None, None, None].expand(1, 3, 1, -1)
    made = network(ramp, torch.zeros(1), None)[0, :, 0]
    step = ramp[0, 0, 0].diff()[:1]
    assert (made.diff(dim=1) >= -1e-5).all() and (made[:, -1] - made[:, -2]).allclose(step, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_nodata_scale_and_offset_do_not_leak(tmp_path, kind):
    source, target = scene(1), scene(2, bands=3)
    hidden = np.random.default_rng(3).random(source.shape[1:]) < 0.05
    shown = [source.copy(), target.copy()]
    for pixels in shown:
        pixels[:, hidden] = np.nan
    plain, _ = solved(tmp_path, kind, *shown)
    stored = [np.where(hidden, -1e6, (pixels - 7) / 0.25) for pixels in (source, target)]
    paths = []
    for name, pixels in zip("xy", stored):
        paths.append(write(tmp_path / f"{name}.tif", pixels, nodata=-1e6))
        with rasterio.open(paths[-1], "r+") as data:
            data.scales, data.offsets = (0.25,) * 3, (7,) * 3
    other, _ = solved(tmp_path, kind, *paths)
    for one, two in zip(plain.network().state_dict().values(), other.network().state_dict().values()):
        assert torch.allclose(one, two, atol=1e-4)
    assert np.allclose(plain.manifest.normalise_in.mean, other.manifest.normalise_in.mean)


@pytest.mark.parametrize("kind", ["moments", "transport", "histogram"])
def test_the_order_of_unpaired_rasters_does_not_matter(tmp_path, kind):
    paths = [write(tmp_path / f"{k}.tif", scene(k, height=40 + 10 * k)) for k in range(3)]
    target = write(tmp_path / "t.tif", scene(9))
    one, two = (solved(tmp_path, kind, order, target)[0] for order in (paths, paths[::-1]))
    for a, b in zip(one.network().state_dict().values(), two.network().state_dict().values()):
        assert torch.allclose(a, b, atol=1e-5)


def test_the_tiling_does_not_matter(tmp_path):
    source = scene()
    package, _ = solved(tmp_path, "linear", source, np.roll(source, 1, 1) ** 2 / 100, sizes={
        "neighbourhood": 5, "squares": 1, "mean_1": 15})
    whole, tiled = (applied(tmp_path, package, str(tmp_path / "a.tif"), tile=tile, overlap=8) for tile in (512, 32))
    assert np.abs(whole - tiled).max() < 1e-5 * np.ptp(whole)
    assert package.verify() < 1e-5


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_the_filter_is_the_sum_of_its_terms(scale):
    sizes = LinearSizes(bands_in=2, bands_out=3, neighbourhood=3, squares=1, mean_1=5, mean_3=7, scale=scale)
    network, generator = LinearFilter(sizes).double(), torch.Generator().manual_seed(0)
    outputs = 3 * scale**2
    constant = torch.randn(outputs, generator=generator, dtype=torch.float64)
    coefficients = torch.randn(outputs, len(sizes.terms), generator=generator, dtype=torch.float64)
    network.load_solution(constant, coefficients)
    image = torch.randn(1, 2, 12 * scale, 10 * scale, generator=generator, dtype=torch.float64)
    terms = values(at_centres(image, scale), sizes)
    wanted = torch.einsum("ot,nthw->nohw", coefficients, terms) + constant[:, None, None]
    made = network(image, torch.zeros(1), None)
    assert torch.allclose(torch.nn.functional.pixel_unshuffle(made, scale), wanted)
    moved = image.clone()
    row, col = 6 * scale + scale // 2, 5 * scale + scale // 2
    moved[:, :, row, col] += 1
    reached = (network(moved, None, None) != made).any(1)[0].nonzero()
    assert (reached - torch.tensor([row, col])).abs().max() <= network.radius_px


def field(rows, cols, height, width, seed=0):
    """Values (h,w) at pixel centres that are bilinear between random nodes (rows,cols) over all of a raster."""
    nodes = np.random.default_rng(seed).uniform(0.5, 1.5, (rows, cols))
    right, down = (np.linspace(0, 1, n) for n in (cols, rows))
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    across = np.stack([np.interp(x, right, row) for row in nodes])
    return np.stack([np.interp(y, down, col) for col in across.T], 1)


@pytest.mark.parametrize("block", [512, 48])
def test_gains_and_offsets_over_a_map_are_recovered_whatever_the_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr(sweeps, "_BLOCK_PX", block)
    source = scene(height=128, width=96)
    target = source * field(5, 4, 128, 96) + 30 * field(5, 4, 128, 96, 1)
    package, made = solved(tmp_path, "local", source, target, cells=4, smoothing=0)
    assert package.manifest.network.sizes == {"bands_in": 5, "bands_out": 3, "rows": 5, "cols": 4}
    assert [spec.name for spec in package.manifest.bands_in] == ["band 1", "band 2", "band 3"]
    whole, tiled = (applied(tmp_path, package, str(tmp_path / "a.tif"), tile=tile) for tile in (512, 32))
    assert np.abs(whole - target).max() < 1e-3 * np.ptp(target)  # the ridge that holds nodes without pixels
    assert np.array_equal(whole, tiled) and package.verify() < 1e-6
    narrow = package.translator("cpu", "bf16").network
    image = torch.rand(1, 5, 16, 16) * 2 - 1
    assert torch.equal(narrow(image, None, None), made.network(image, None, None))
    smooth, _ = solved(tmp_path, "local", source, target, cells=4)
    plain, _ = solved(tmp_path, "linear", source, target, sizes={})
    errors = [np.abs(applied(tmp_path, each, str(tmp_path / "a.tif")) - target).mean() for each in (smooth, plain)]
    assert errors[0] < errors[1] / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 100.0])
def test_an_affine_map_is_recovered_whatever_the_smoothing_and_the_holes(tmp_path, smoothing):
    source = scene()
    target = source * np.array([1.2, 0.7, 2])[:, None, None] + np.array([5.0, -3, 40])[:, None, None]
    seen = target.copy()
    seen[:, :70] = np.nan  # whole cells without a pixel
    package, _ = solved(tmp_path, "local", source, seen, smoothing=smoothing)
    made = applied(tmp_path, package, str(tmp_path / "a.tif"))
    assert np.abs(made - target).max() < 1e-5 * np.ptp(target)


def test_nodes_without_pixels_are_like_their_neighbours(tmp_path):
    source = scene()
    gain = np.where(np.arange(110) < 55, 1.0, 2.0)
    target = source * gain
    target[:, :, 83:] = np.nan
    package, _ = solved(tmp_path, "local", source, target, smoothing=0.01)
    made = applied(tmp_path, package, str(tmp_path / "a.tif"))
    assert np.abs(made[:, :, 90:] / source[:, :, 90:] - 2).max() < 0.3  # of all pixels it is 1.4


def test_pairs_are_one_area_in_any_order(tmp_path):
    whole, wanted = scene(height=120, width=120), field(4, 4, 120, 120)
    parts = []
    for k, rows in enumerate((slice(0, 70), slice(60, 120))):
        place = PLACE @ Affine.translation(0, rows.start)
        parts.append([write(tmp_path / f"{name}{k}.tif", pixels[:, rows], place)
                      for name, pixels in (("x", whole), ("y", whole * wanted))])
    packages = [solved(tmp_path, "local", *map(list, zip(*order)), cells=3, smoothing=1e-4)[0]
                for order in (parts, parts[::-1])]
    one, two = (package.network().state_dict() for package in packages)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    made = applied(tmp_path, packages[0], write(tmp_path / "whole.tif", whole))
    assert np.abs(made - whole * wanted).max() < 1e-2 * np.ptp(whole)


def test_a_raster_of_the_area_is_corrected_in_any_crs(tmp_path):
    """The corrected raster, reprojected, is the corrected reprojected raster; both by the nearest pixel."""
    source = scene(height=120, width=120)
    package, _ = solved(tmp_path, "local", source, source * field(4, 4, 120, 120), cells=3, smoothing=1e-4)
    corrected = write(tmp_path / "c.tif", applied(tmp_path, package, str(tmp_path / "a.tif")))
    # Larger than the area, and with its own numbers beside it.
    place = Affine(0.0005, 0, 2.99, 0, -0.0004, 40.66)
    seen = []
    for path, name in ((str(tmp_path / "a.tif"), "there.tif"), (corrected, "wanted.tif")):
        with rasterio.open(path) as data, rasterio.open(
                tmp_path / name, "w", driver="GTiff", count=3, height=130, width=130, dtype="float64", nodata=-9,
                crs="EPSG:4326", transform=place) as out:
            for band in (1, 2, 3):
                reproject(rasterio.band(data, band), rasterio.band(out, band), dst_nodata=-9)
        seen.append(str(tmp_path / name))
    made = applied(tmp_path, package, seen[0])
    with rasterio.open(seen[1]) as data:
        wanted = data.read()
    there = wanted[0] != -9
    assert 0.3 < there.mean() < 1 and (made[:, ~there] == -9).all()
    assert np.abs(made - wanted)[:, there].max() < 0.02 * np.ptp(source)  # half a pixel of the field


def test_the_fields_are_those_of_the_equation(tmp_path):
    """Against one dense least-squares problem, with a row for each pixel and for each pair of neighbouring nodes."""
    source, smoothing = scene(bands=1, height=40, width=30), 0.3
    target = source * field(4, 3, 40, 30) + np.random.default_rng(5).normal(0, 4, source.shape)
    package, _ = solved(tmp_path, "local", source, target, cells=3, smoothing=smoothing)
    rows, cols = 4, 3
    x, y = ((pixels - pixels.mean()) / pixels.std() for pixels in (source[0], target[0]))
    shares = np.stack([np.outer(np.interp((np.arange(40) + 0.5) / 40, np.linspace(0, 1, rows), np.eye(rows)[i]),
                                np.interp((np.arange(30) + 0.5) / 30, np.linspace(0, 1, cols), np.eye(cols)[j])).ravel()
                       for i in range(rows) for j in range(cols)], 1)
    held = np.sqrt(smoothing * x.size / (rows * cols))
    places = [(i, j) for i in range(rows) for j in range(cols)]
    pairs = [held * (np.eye(12)[a] - np.eye(12)[b]) for a, (i, j) in enumerate(places) for b, (k, m) in
             enumerate(places) if (k - i, m - j) in ((0, 1), (1, 0))]
    none = np.zeros((len(pairs), 12))
    matrix = np.vstack([np.hstack([shares * x.ravel()[:, None], shares]), np.hstack([pairs, none]),
                        np.hstack([none, pairs])])
    found = np.linalg.lstsq(matrix, np.concatenate([y.ravel(), np.zeros(2 * len(pairs))]), rcond=None)[0]
    level = package.network().level
    assert np.allclose(np.concatenate([level["gain"].flatten(), level["offset"].flatten()]), found, atol=1e-4)


def test_a_coarser_target_is_compared_with_means_of_the_source(tmp_path):
    """Fine detail that the target cannot show takes nothing away from the gain."""
    noisy = scene(height=120, width=120) + np.random.default_rng(4).normal(0, 30, (3, 120, 120))
    gain = field(3, 3, 120, 120)
    coarse = (noisy * gain).reshape(3, 24, 5, 24, 5).mean((2, 4))
    fine, large = write(tmp_path / "s.tif", noisy), write(tmp_path / "t.tif", coarse, PLACE @ Affine.scale(5))
    package, _ = solved(tmp_path, "local", fine, large, {"data.match_grid": "true"}, cells=2, smoothing=1e-3)
    made = applied(tmp_path, package, fine)
    assert made.shape == noisy.shape and np.abs(made - noisy * gain).mean() < 0.05 * noisy.std()
    with pytest.raises(RecipeError, match=r"data\.match_grid = true"):
        solved(tmp_path, "local", fine, large)


def test_a_fresh_curve_is_the_identity():
    image = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(Curves(CurvesSizes(bands_in=3, bands_out=3))(image, None, None), image, atol=1e-6)


def bad(tmp_path, arguments):
    command = [sys.executable, "-m", "geoi2i", "fit", *arguments, "--output", "model"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)


@pytest.mark.parametrize("arguments, words", [
    (["linear", "--source", "small.tif", "--target", "small.tif", "--neighbourhood", "7"], "usable pixels for"),
    (["transport", "--source", "twice.tif", "--target", "a.tif"], "linearly dependent"),
    (["moments", "--source", "flat.tif", "--target", "a.tif"], "is constant"),
    (["linear", "--source", "a.tif", "--target", "far.tif"], "usable pixels for"),
    (["linear", "--source", "a.tif", "--target", "far.tif", "--set", "data.match_grid=true"], "does not overlap"),
    (["moments", "--source", "a.tif", "--target", "two.tif"], "as many target bands"),
    (["linear", "--source", "a.tif", "--target", "a.tif", "--set", "data.scale=3/2"], "whole number for data.scale"),
    (["moments", "--source", "a.tif", "--target", "a.tif", "--set", "data.scale=3"], "does not enlarge"),
    (["linear", "--source", "a.tif", "--target", "a.tif", "--set", "optimiser.lr=1"], "not used by fit"),
    (["linear", "--source", "a.tif", "--target", "a.tif", "--means", "3,x"], "at most four numbers"),
    (["linear", "--source", "a.tif", "--target", "a.tif", "--neighbourhood", "4"], "must be odd"),
    (["moments", "--source", "a.tif", "--target", "a.tif", "--squares"], "belong to fit linear"),
    (["local", "--source", "small.tif", "--target", "small.tif"], "lower --cells"),
    (["local", "--source", "a.tif", "--target", "far.tif"], "share 0 usable pixels"),
    (["local", "--source", "a.tif", "--target", "far.tif", "--set", "data.match_grid=true"], "does not overlap"),
    (["local", "--source", "a.tif", "--target", "two.tif"], "as many target bands"),
    (["local", "--source", "a.tif", "--target", "a.tif", "--set", "data.scale=3"], "does not enlarge"),
    (["local", "--source", "a.tif", "--target", "a.tif", "--cells", "0"], "--cells"),
    (["linear", "--source", "none.tif", "--target", "a.tif"], "No source raster is found")])
def test_what_cannot_be_fitted_is_refused_in_a_sentence(tmp_path, arguments, words):
    pixels = scene(height=40, width=50)
    write(tmp_path / "a.tif", pixels)
    write(tmp_path / "small.tif", pixels[:, :9, :9])
    write(tmp_path / "twice.tif", pixels[[0, 1, 0]])
    write(tmp_path / "flat.tif", np.full_like(pixels, 3))
    write(tmp_path / "two.tif", pixels[:2])
    write(tmp_path / "far.tif", pixels, PLACE @ Affine.translation(9000, 0))
    done = bad(tmp_path, arguments)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "model").exists()


def test_the_command_prints_the_candidates_and_writes_a_package(tmp_path):
    source = scene(bands=2, height=150, width=140)
    write(tmp_path / "a.tif", source)
    write(tmp_path / "b.tif", np.roll(source, 1, 1))
    done = bad(tmp_path, ["linear", "--source", "a.tif", "--target", "b.tif"])
    assert done.returncode == 0 and done.stdout.startswith("Wrote the model"), done.stderr
    assert "0.0" in done.stderr and "means over 3, 7, 15, 31" in done.stderr
    assert (tmp_path / "model" / "manifest.json").exists()


def test_what_is_not_a_pair_is_refused(tmp_path):
    one, two = (write(tmp_path / f"{k}.tif", scene(k)) for k in range(2))
    for kind in PAIRED:
        for overrides in ({}, {"data.match_grid": "true"}):
            with pytest.raises(RecipeError, match="2 source and 1 target rasters do not pair up"):
                solved(tmp_path, kind, [one, two], [one], overrides)



@pytest.mark.parametrize("dtype, scale, offset", [("float32", 1.0, 0.0), ("uint16", 0.01, -3.0)])
def test_mean_and_covariance_are_those_of_numpy(make_raster, dtype, scale, offset):
    generator = np.random.default_rng(0)
    pixels = generator.integers(1, 900, (3, 700, 500)).astype(dtype)
    pixels[:, generator.random((700, 500)) < 0.2] = 0
    raster = RasterSource.open(make_raster(pixels, nodata=0, scales=(scale,) * 3, offsets=(offset,) * 3))
    found = sweeps.mean_covariance([raster], ["a", "b", "c"])
    values = pixels[:, pixels[0] != 0].astype(float) * scale + offset
    assert found.count == values.shape[1]
    assert np.allclose(found.mean, values.mean(1), rtol=1e-13, atol=0)
    assert np.allclose(found.covariance, np.cov(values, bias=True), rtol=1e-9, atol=1e-12)
