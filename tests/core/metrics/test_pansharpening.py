"""QNR and HQNR and all that they are made of, against DLPan-Toolbox run in GNU Octave."""


import numpy as np
import pytest
from geoi2i.core.metrics import Accumulator, measured
from geoi2i.core.metrics.pansharpening import (
    GAINS,
    d_lambda,
    d_lambda_khan,
    d_s,
    imresize,
    interpolate_23tap,
    low_pass,
    mtf_kernel,
    qnr,
)
from metric_inputs import scene, sharpened

CASES = {  # bands, seed, sensor: D_lambda, D_s, D_lambda of Khan, QNR, HQNR
    (4, 11, "QB"): (0.0100937327933671, 0.0180999599042346, 0.0436202721264637, 0.971989003461242, 0.939069293145802),
    (4, 13, None): (0.0100939353621321, 0.0198976887621018, 0.0457435046215002, 0.970209221859987, 0.935268996634244),
}


@pytest.mark.parametrize("case", CASES)
def test_the_distortions_are_those_of_the_toolbox(case):
    bands, seed, sensor = case
    fused, coarse, pan = sharpened(bands, seed)
    exp = interpolate_23tap(coarse.astype(float), 4)
    spectral = measured(d_lambda(), exp, fused)
    spatial = measured(d_s(), np.concatenate([exp, pan[None], low_pass(pan.astype(float))[None]]), fused)
    khan = measured(d_lambda_khan(sensor), exp, fused)
    found = spectral, spatial, khan, qnr(spectral, spatial), qnr(khan, spatial)
    assert found == pytest.approx(CASES[case], abs=1e-12)


def test_shrinking_is_matlabs():
    expected = [-6.79663556814194, 25.8365669250488, 10.4183524847031, -4.2499708533287, 328.371287226677,
                219.632223248482, 166.223209023476, 307.637721419334, 716.487364530563, 456.346262097359,
                578.670335650444, 565.65430188179, 528.71795207262, 539.153392553329, 737.937919735909,
                581.272217571735]
    np.testing.assert_allclose(imresize(scene(16, 16, 1, 10)[..., 0].astype(float), 1 / 4).ravel(), expected, atol=1e-9)


def test_interpolation_keeps_a_constant_and_goes_through_the_samples():
    """The half-band filter leaves its own samples; they stand at 2, 6, 10, ... of the fourfold grid."""
    image = np.random.default_rng(0).normal(size=(2, 8, 8))
    fine = interpolate_23tap(image, 4)
    np.testing.assert_allclose(fine[:, 2::4, 2::4], image, atol=1e-12)
    np.testing.assert_allclose(interpolate_23tap(np.ones((8, 8)), 4), 1, atol=3e-9)
    with pytest.raises(ValueError, match="power of two"):
        interpolate_23tap(image, 3)


@pytest.mark.parametrize("gain, total, centre, near", [
    (0.34, 0.998869304744, 0.043308918569, 0.00489879102012),
    (0.30, 0.998739948266, 0.0388065907576, 0.0055043112603),
    (0.22, 0.998419644811, 0.0308574229965, 0.00652660986235),
    (0.23, 0.99846553373, 0.0317907354194, 0.00641585208938)])
def test_the_sensors_blur_is_the_toolboxs(gain, total, centre, near):
    kernel = mtf_kernel(gain, 4)
    assert [kernel.sum(), kernel[20, 20], kernel[20, 24]] == pytest.approx([total, centre, near], abs=1e-11)


def test_every_sensor_has_a_gain_for_each_band():
    assert {name: len(gains) for name, gains in GAINS.items()} == {
        "QB": 4, "IKONOS": 4, "GeoEye1": 4, "WV4": 4, "WV2": 8, "WV3": 8}


@pytest.mark.parametrize("measure", [d_lambda(), d_s(), d_lambda_khan("QB")], ids=lambda m: m.name)
def test_parts_give_the_same_as_the_whole(measure):
    fused, coarse, pan = sharpened(4, 11)
    exp = interpolate_23tap(coarse.astype(float), 4)
    reference = np.concatenate([exp, pan[None], low_pass(pan.astype(float))[None]]) if measure.name == "D_s" else exp
    mask = np.ones(pan.shape, bool)
    mask[100:103, 50:200] = False
    whole = Accumulator(measure).update(reference, fused, mask).compute()
    total, halo = Accumulator(measure), measure.halo_px
    for low, high in ((160, 256), (0, 32), (32, 160)):
        start, stop = max(0, low - halo), min(256, high + halo)
        owned = slice(low - start, high - start), slice(0, 256)
        part = reference[:, start:stop], fused[:, start:stop], mask[start:stop]
        total.merge(Accumulator(measure).update(*part, owned))
    found = total.compute()
    assert found.value == pytest.approx(whole.value, rel=1e-10) and found.n_valid == whole.n_valid < 64
