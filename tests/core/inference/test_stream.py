"""Laws of the stream: a stage over any tiling equals the whole image, at any height, in bounded memory."""

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from geoi2i.core.inference import noise
from geoi2i.core.inference.sampler import sample
from geoi2i.core.inference.steps import Step, StepTable, schrodinger_bridge_table
from geoi2i.core.inference.stream import RowBand, Stage, run_stage
from geoi2i.core.inference.tiles import Tiling
from geoi2i.core.inference.translator import START, STEP, STYLE, Translator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bands(image, piece, mask=None):
    for row in range(0, image.shape[1], piece):
        part = slice(row, row + piece)
        yield RowBand(row, image[:, part], source=image[:, part], mask=None if mask is None else mask[:, part])


def take(band, x_hat):
    return replace(band, state=x_hat)


def whole(stream):
    found = list(stream)
    row = 0
    for band in found:
        assert band.row == row, "rows leave in order and without a gap"
        row += band.height
    return torch.cat([band.state for band in found], 1)


def mean_3x3(state, source):
    return F.avg_pool2d(F.pad(state, (1, 1, 1, 1)), 3, 1)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(0, 20), st.integers(1, 9),
       st.sampled_from([1, 2, 4]), st.integers(1, 33), st.integers(1, 7))
def test_a_stage_over_any_tiling_is_the_whole_image(height, width, tile, overlap, margin, multiple, piece, batch):
    image = rand(2, height, width)
    stage = Stage(mean_3x3, take, Tiling(tile, min(overlap, tile // 2), margin, multiple))
    result = whole(run_stage(stage, bands(image, piece), height, width, batch))
    expected = [ndimage.uniform_filter(band, 3, mode="mirror") for band in image.double().numpy()]
    np.testing.assert_allclose(result.numpy(), expected, atol=2e-6)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 30), st.integers(0, 8), st.integers(1, 20))
def test_a_stage_that_doubles_is_numpy_repeat(height, width, tile, overlap, piece):
    image = rand(2, height, width)
    mask = (rand(1, height, width, seed=1) > 0).to(torch.uint8)
    stage = Stage(lambda x, source: F.interpolate(x, scale_factor=2), take,
                  Tiling(tile, min(overlap, tile // 2), 2, 1), Fraction(2))
    found = list(run_stage(stage, bands(image, piece, mask), height, width))
    result = torch.cat([b.state for b in found], 1), torch.cat([b.mask for b in found], 1)
    for got, given_ in zip(result, (image, mask)):
        assert np.array_equal(got.numpy(), given_.numpy().repeat(2, 1).repeat(2, 2))
    assert [b.row for b in found] == np.cumsum([0, *(b.state.shape[1] for b in found)])[:-1].tolist()


@given(st.integers(1, 25), st.integers(1, 25), st.integers(2, 30), st.integers(1, 20))
def test_a_stage_that_halves_is_the_mean_of_blocks(height, width, tile, piece):
    image = rand(2, 2 * height, 2 * width)
    stage = Stage(lambda x, source: F.avg_pool2d(x, 2), take, Tiling(tile, min(4, tile // 2), 2, 2), Fraction(1, 2))
    result = whole(run_stage(stage, bands(image, piece), 2 * height, 2 * width))
    np.testing.assert_allclose(result, image.reshape(2, height, 2, width, 2).mean((2, 4)), atol=1e-6)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 30), st.integers(1, 20), st.integers(1, 5))
def test_state_source_and_mask_stay_in_place(height, width, tile, piece, batch):
    image, mask = rand(1, height, width), (rand(1, height, width, seed=1) > 0).to(torch.uint8)
    stage = Stage(lambda x, source: x - source, lambda band, x_hat: replace(band, previous=x_hat),
                  Tiling(tile, tile // 3, 5, 2))
    found = list(run_stage(stage, bands(image, piece, mask), height, width, batch))
    for name, expected in (("state", image), ("source", image), ("mask", mask), ("previous", 0 * image)):
        assert torch.equal(torch.cat([getattr(b, name) for b in found], 1), expected)


def test_pieces_without_a_mask_are_valid():
    image = rand(1, 30, 9)
    hole = torch.zeros(1, 10, 9, dtype=torch.uint8)
    parts = [RowBand(row, image[:, row : row + 10], mask=hole if row == 10 else None) for row in (0, 10, 20)]
    found = list(run_stage(Stage(mean_3x3, take, Tiling(16, 0, 1, 1)), iter(parts), 30, 9))
    found = torch.cat([torch.full((1, b.height, 9), 255, dtype=torch.uint8) if b.mask is None else b.mask
                       for b in found], 1)
    assert torch.equal(found != 0, torch.cat([hole + 1, hole, hole + 1], 1) != 0)


def test_workers_and_batches_change_nothing():
    image, tiling = rand(2, 100, 90), Tiling(32, 8, 4, 4)
    alone = whole(run_stage(Stage(mean_3x3, take, tiling), bands(image, 7), 100, 90))
    with ThreadPoolExecutor(3) as pool:
        for batch in (1, 3, 100):
            result = whole(run_stage(Stage(mean_3x3, take, tiling), bands(image, 50), 100, 90, batch, pool))
            torch.testing.assert_close(result, alone, rtol=0, atol=1e-6)


def live_bytes():
    """Bytes of all tensors alive but those that were frozen before."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
                for t in gc.get_objects() if type(t) is torch.Tensor}
    return sum(storages.values())


def peaks(height, tile=32, margin=8, piece=20, width=64):
    """Most rows read ahead of what has left, and most bytes of tensors alive, over a run."""
    counts = {"read": 0, "left": 0, "ahead": 0, "bytes": 0}

    def source():
        for row in range(0, height, piece):
            rows = min(piece, height - row)
            counts["read"] = row + rows
            counts["ahead"] = max(counts["ahead"], counts["read"] - counts["left"])
            counts["bytes"] = max(counts["bytes"], live_bytes())
            yield RowBand(row, torch.zeros(3, rows, width), source=torch.zeros(3, rows, width))

    gc.collect()
    gc.freeze()
    for band in run_stage(Stage(mean_3x3, take, Tiling(tile, 8, margin, 4)), source(), height, width):
        counts["left"] = band.row + band.height
    gc.unfreeze()
    return counts["ahead"], counts["bytes"]


def test_no_more_rows_are_held_than_a_tile_two_margins_and_a_piece():
    row_bytes = 2 * 4 * 3 * 64  # state and source
    ahead, held = peaks(2000)
    assert ahead <= 32 + 2 * 8 + 20
    assert held <= 3 * (32 + 2 * 8 + 20) * row_bytes, "the rows, their copy, windows, strip and overlap"


@pytest.mark.slow
def test_memory_does_not_depend_on_the_height():
    assert peaks(4000) == peaks(500)


# --- the chain of a real network, and what breaks it ---------------------------------------------

SIZE = 156


def translate(network, image, tile, overlap=0, origin=(0, 0), table=None, style=4, margin=None, multiple=None,
              key=(5, 0)):
    tiling = Tiling(tile, overlap, network.radius_px if margin is None else margin, multiple or network.stride)
    translator = Translator(network, table or schrodinger_bridge_table(1), tiling, style)
    with torch.inference_mode():
        return whole(translator.translate(bands(image, 31), *image.shape[1:], seed=key[0], sample=key[1],
                                          origin=origin))


@pytest.mark.slow
@pytest.mark.parametrize("tile", [32, 48, 100])
@pytest.mark.parametrize("overlap", [0, 12])
def test_result_ignores_tile_size(make_network, tile, overlap):
    network, image, table = make_network(), rand(3, SIZE, SIZE - 20), schrodinger_bridge_table(5, tau=0.1)
    expected = translate(network, image, 512, table=table)
    result = translate(network, image, tile, overlap, table=table)
    assert (result - expected).abs().max() <= 1e-4 * expected.std()


@pytest.mark.slow
def test_result_ignores_tile_size_to_double_precision(make_network):
    network, image = make_network().double(), rand(3, SIZE, SIZE).double()

    class Double(torch.nn.Module):
        def forward(self, x, time, style):
            return network(x, time, style.double())

    double = Double()
    expected, result = (translate(double, image, tile, margin=network.radius_px, multiple=4) for tile in (512, 32))
    assert (result - expected).abs().max() <= 1e-9 * expected.std()


def test_noise_and_style_are_the_same_whatever_the_tile(make_network):
    """The first stage draws one field and one style vector, and both matter."""
    network, image = make_network(), rand(3, 64, 64)
    table = StepTable(steps=schrodinger_bridge_table(1).steps, noise_std=1.0)
    noisy, quiet = translate(network, image, 32, table=table), translate(network, image, 32)
    assert (noisy - quiet).abs().mean() > 0.1 * quiet.std()
    torch.testing.assert_close(translate(network, image, 64, table=table), noisy, atol=1e-4, rtol=1e-4)


def test_a_part_is_translated_like_the_whole(make_network):
    """An image cut on the lattice, with its origin, gives the same pixels beyond the reach of its border."""
    network, image, table = make_network(), rand(3, SIZE, SIZE), schrodinger_bridge_table(2, tau=0.1)
    expected, reach = translate(network, image, 64, table=table), 2 * network.radius_px
    part = translate(network, image[:, 8:, 4:], 64, table=table, origin=(8, 4))
    difference = part[:, reach:, reach:] - expected[:, 8 + reach :, 4 + reach :]
    assert difference.abs().max() <= 1e-4 * expected.std()


def error_in_std(result, expected, edge=32):
    """Root mean square difference away from the border, in standard deviations of the expected image."""
    inner = (slice(None), slice(edge, -edge), slice(edge, -edge))
    return float((result - expected)[inner].square().mean().sqrt() / expected[inner].std())


def test_control_an_origin_off_the_lattice_shows(make_network):
    network, image = make_network(), F.interpolate(rand(1, 3, 40, 40), SIZE, mode="bilinear")[0]
    torch.nn.init.zeros_(network.level.weight)
    expected = translate(network, image, 512)
    shifted = {k: translate(network, image[:, k:, k:], 512) for k in (2, 4)}
    assert error_in_std(shifted[4], expected[:, 4:, 4:]) < 1e-4
    assert error_in_std(shifted[2], expected[:, 2:, 2:]) > 0.1


def test_control_statistics_of_each_window_show():
    """Instance normalisation over space, as in the published generators."""
    ramp = torch.linspace(-2, 2, SIZE)
    image = rand(3, SIZE, SIZE) * 0.2 + ramp[:, None] + ramp
    tiled, one = (whole(run_stage(Stage(lambda x, source: F.instance_norm(mean_3x3(x, source)), take,
                                        Tiling(tile, 8, 8, 4)), bands(image, 20), SIZE, SIZE))
                  for tile in (32, 512))
    assert error_in_std(tiled, one) > 0.1


@pytest.mark.parametrize("keyed", [True, False])
def test_control_noise_that_is_not_keyed_to_the_position_shows(keyed):
    def noisy(band, x_hat):
        eps = noise.field((1,), *_place(band)) if keyed else rand(*x_hat.shape, seed=band.row)
        return replace(band, state=x_hat + 0.3 * eps)

    def _place(band):
        return 3, band.row, 0, band.height, SIZE

    image = rand(3, SIZE, SIZE)
    tiled, one = (whole(run_stage(Stage(mean_3x3, noisy, Tiling(tile, 8, 8, 4)), bands(image, 20), SIZE, SIZE))
                  for tile in (32, 512))
    error = error_in_std(tiled, one)
    assert error < 1e-5 if keyed else error > 0.1


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 60), st.integers(1, 40))
def test_a_chain_without_a_network_is_its_recurrence(height, width, tile, piece):
    """Noise keeps its place through ten stages, whatever the pieces; nothing else happens to a pixel."""
    image = rand(2, height, width)
    table = schrodinger_bridge_table(10, tau=0.5)
    table = table.model_copy(update={"steps": tuple(s.model_copy(update={"c_skip": 0.5, "c_out": 0.0})
                                                    for s in table.steps)})
    translator = Translator(None, table, Tiling(tile, tile // 4, 3, 1))
    result = whole(translator.translate(bands(image, piece), height, width, seed=3, sample=2, origin=(11, 13)))
    x = image
    for i, step in enumerate(table.steps):
        x = step.keep * x + step.pull * 0.5 * x + step.noise * noise.field((3, 2, 1, i), 2, 11, 13, height, width)
    torch.testing.assert_close(result, x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("table", [
    schrodinger_bridge_table(4, tau=0.5),
    StepTable(steps=tuple(Step(time=k, keep=0.4, pull=0.5, memory=0.2 * (k > 0), source=0.1, noise=0.3, c_skip=0.5,
                               in_source=0.2) for k in range(3)), noise_std=0.7)])
def test_the_stream_unrolls_the_sampling_loop(make_network, table):
    """With the same noise and style the loop over whole images and the stages over rows make the same image.

    Inside a border as wide as all steps see: beyond it a stream reflects the raster, and a layer fills up its window.
    """
    network, key = make_network(levels=0), (5, 2)
    border = len(table.steps) * network.radius_px
    image = rand(3, 2 * border + 30, 2 * border + 20)
    made = translate(network, image, tile=32, overlap=4, table=table, key=key)

    def draw(number, like):
        stream = (*key, *((STEP, number - 1) if number else (START, 0)))
        return noise.field(stream, like.shape[1], 0, 0, *like.shape[2:])[None]

    styles = (noise.vector((*key, STYLE, number), network.style_size)[None] for number in range(len(table.steps)))
    with torch.inference_mode():
        whole = sample(table, network, image[None], draw, lambda: next(styles))[0]
    inside = np.s_[:, border:-border, border:-border]
    assert whole[inside].shape == (3, 30, 20) and float((whole - image).abs()[inside].max()) > 0.1
    torch.testing.assert_close(made[inside], whole[inside], atol=1e-4, rtol=0)
