"""Laws of augmentation: what is off changes no bit, geometry keeps pixels and pairs, radiometry keeps means."""

import numpy as np
import pytest
import torch
from geoi2i.core.errors import RecipeError
from geoi2i.training.augmentation import augmentation
from geoi2i.training.recipe import make_recipe
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip, RandomVerticalFlip
from scipy.ndimage import gaussian_filter


def recipe(flip=False, window_px=16, **augment):
    data = {"flip_rows": flip, "flip_cols": flip, "window_px": window_px}
    return make_recipe({"name": "t", "method": "pix2pix", "data": data | ({"augment": augment} if augment else {})},
                       {}, "here.toml")


def augmented(batch, seed=0, paired=True, **augment):
    torch.manual_seed(seed)
    return augmentation(recipe(**augment), paired)(batch)


def windows(count=8, seed=0, side=16):
    """Values well beyond [-1,1]."""
    return 3 * torch.randn(count, 2, side, side, generator=torch.Generator().manual_seed(seed))


def unpaired(count=8):
    return {"source": windows(count), "source2": windows(count, 1), "target": windows(count, 2)}


ALL = {"turns": True, "blur": 1.5, "gain": 0.2, "offset": 0.1, "noise": 0.05}


@pytest.mark.parametrize("paired", [True, False])
def test_what_is_off_draws_nothing_and_flips_as_kornia_does(paired):
    batch = {name: windows(seed=k) for k, name in enumerate(("source", "target"))}
    found = augmented(batch, 3, paired, flip=True)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    flip = AugmentationSequential(RandomVerticalFlip(p=0.5), RandomHorizontalFlip(p=0.5), data_keys=["input"])
    source, drawn = flip(batch["source"]), flip._params
    target = flip(batch["target"], params=drawn) if paired else flip(batch["target"])
    assert torch.equal(found["source"], source) and torch.equal(found["target"], target)
    assert torch.equal(after, torch.get_rng_state())
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert augmentation(recipe(), paired)(batch) is batch and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("flip", [False, True])
def test_geometry_is_alike_on_both_sides_of_a_pair(flip):
    found = augmented({"source": windows(64), "target": windows(64)}, flip=flip, turns=True)
    assert torch.equal(found["source"], found["target"])
    found = augmented({"source": windows(64), "target": windows(64)}, flip=flip, turns=True, paired=False)
    assert not torch.equal(found["source"], found["target"])


def test_turns_are_those_of_numpy_and_each_is_drawn():
    batch = {"source": windows(64), "target": windows(64, 1)}
    found, seen = augmented(batch, turns=True), []
    for k in range(64):
        turns = [t for t in range(4) if all(np.array_equal(
            found[name][k].numpy(), np.rot90(batch[name][k].numpy(), t, (1, 2))) for name in batch)]
        assert len(turns) == 1
        seen += turns
    assert set(seen) == {0, 1, 2, 3} and 4 < min(np.bincount(seen))


def test_noise_has_the_deviation_asked_for_and_is_white():
    batch = unpaired(40)
    found = augmented(batch, noise=0.25)
    for name in ("source", "source2"):
        noise = found[name] - batch[name]
        assert noise.std() == pytest.approx(0.25, rel=0.02) and abs(noise.mean()) < 0.01  # five deviations or more
        assert abs((noise[..., 1:] * noise[..., :-1]).mean()) < 0.05 * 0.25**2


def test_jitter_is_one_line_per_window_and_band_within_its_bounds_and_the_image_on_average():
    batch = {"source": windows(2000, side=8)}
    found = augmented(batch, gain=0.3, offset=0.2, window_px=8)["source"]
    gains, offsets = np.empty((2, 4000))
    for k, (one, two) in enumerate(zip(batch["source"].flatten(0, 1).flatten(1).double().numpy(),
                                       found.flatten(0, 1).flatten(1).double().numpy())):
        (gains[k], offsets[k]), error, *_ = np.polyfit(one, two, 1, full=True)
        assert error < 1e-8
    for drawn, middle, half in ((gains, 1, 0.3), (offsets, 0, 0.2)):
        assert np.abs(drawn - middle).max() == pytest.approx(half, rel=0.01) and len(np.unique(drawn)) > 3900
        assert drawn.mean() == pytest.approx(middle, abs=5 * half / np.sqrt(3 * 4000))
    assert abs(np.corrcoef(gains, offsets)[0, 1]) < 0.1
    torch.manual_seed(1)
    jitter, same = augmentation(recipe(gain=0.3, offset=0.2), True), {"source": windows(1)}
    mean = torch.stack([jitter(same)["source"] for _ in range(2000)]).mean(0)
    assert (mean - same["source"]).abs().max() < 5 * (0.3 * 10 + 0.2) / np.sqrt(3 * 2000)


def test_blurs_are_gaussian_of_up_to_the_deviation_asked_for():
    point = torch.zeros(200, 1, 33, 33)
    point[:, :, 16, 16] = 1.0
    found = augmented({"source": point}, blur=2.0, window_px=33)["source"]
    assert torch.allclose(found.sum((1, 2, 3)), torch.ones(200), atol=1e-5)
    offsets = (torch.arange(33) - 16.0) ** 2
    deviations = (found.sum((1, 2)) * offsets).sum(1).sqrt()
    assert 1.9 < deviations.max() <= 2.0 and deviations.min() < 0.3 and abs(deviations.mean() - 1.0) < 0.15
    widest = int(deviations.argmax())
    wanted = gaussian_filter(point[widest, 0].numpy(), float(deviations[widest]), truncate=3.0)
    assert np.abs(found[widest, 0].numpy() - wanted).max() < 1e-3


@pytest.mark.parametrize("augment", [{key: value} for key, value in ALL.items() if key != "turns"])
def test_radiometry_is_of_the_source_alone(augment):
    batch = unpaired()
    found = augmented(batch, paired=False, **augment)
    assert found["target"] is batch["target"] and list(found) == list(batch)
    assert not torch.equal(found["source"], batch["source"])
    assert not torch.equal(found["source2"], batch["source2"])


def test_nothing_is_clipped():
    high = {"source": torch.full((4, 1, 16, 16), 5.0), "target": torch.full((4, 1, 16, 16), -5.0)}
    found = augmented(high, flip=True, **ALL)
    assert found["source"].min() > 3.5 and torch.equal(found["target"], high["target"])


def test_the_same_step_gives_the_same_bits_whatever_came_before():
    augment, other = (augmentation(recipe(flip=True, **ALL), False) for _ in range(2))
    augment(unpaired())
    found = []
    for each in (augment, other, augment):
        torch.manual_seed(7)
        found.append(each(unpaired()))
    assert all(torch.equal(found[0][name], one[name]) for one in found[1:] for name in found[0])
    torch.manual_seed(8)
    assert not torch.equal(augment(unpaired())["source"], found[0]["source"])


@pytest.mark.parametrize("augment, words", [
    ({"noise": -0.1}, "data.augment.noise"), ({"gain": 1.0}, "data.augment.gain"),
    ({"offset": 11}, "data.augment.offset"), ({"turn": True}, "did you mean 'turns'"),
    ({"blur": 5.5}, r"augment.blur = 5.5 reaches 17 pixels far, and windows have 16 \(window_px\); correct it")])
def test_what_cannot_be_is_refused_by_its_key(augment, words):
    with pytest.raises(RecipeError, match=words):
        recipe(**augment)
