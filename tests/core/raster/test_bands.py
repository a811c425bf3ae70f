"""Laws of the numbers: normalisers come back exactly, stored numbers are rounded half to even and never nodata."""

import numpy as np
import pytest
import torch
from geoi2i.core.models.normalisers import (
    BandAffine,
    MeanStdNormaliser,
    NoNormaliser,
    PercentileNormaliser,
    RangeNormaliser,
)
from geoi2i.core.pipeline.radiometry import forward, inverse
from geoi2i.core.raster.bands import Statistics
from geoi2i.core.rounding import to_dtype
from hypothesis import given
from hypothesis import strategies as st

X = torch.tensor([0.0, 1, 50, 99, 100]).reshape(1, 1, 5).repeat(2, 1, 1)
STATISTICS = Statistics((50.0, 7.0), (2.0, 1.0), {2.0: (0.0, 20.0), 98.0: (100.0, 20.0)}, (9, 9))


@pytest.mark.parametrize("normaliser, expected", [
    (RangeNormaliser(minimum=(0, 50), maximum=(100, 150)), [[-1, -0.98, 0, 0.98, 1], [-2, -1.98, -1, -0.02, 0]]),
    (MeanStdNormaliser(mean=(50, 0), std=(10, 50)), [[-5, -4.9, 0, 4.9, 5], [0, 0.02, 1, 1.98, 2]]),
    (PercentileNormaliser(), [[-1, -0.98, 0, 0.98, 1], [-41, -39, 59, 157, 159]])])
def test_normalisers_are_their_definition_and_invertible(normaliser, expected):
    affine = normaliser.resolve(STATISTICS)
    y = forward(affine, X)
    np.testing.assert_allclose(y[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(inverse(affine, y), X, atol=2e-5)


def test_no_normaliser_is_none():
    assert NoNormaliser().resolve(None) is None


@pytest.mark.slow
@given(st.integers(0, 65535), st.integers(0, 65534), st.integers(1, 65535))
def test_stored_integers_of_sixteen_bits_survive_the_way_there_and_back(value, low, span):
    affine = RangeNormaliser(minimum=(low,), maximum=(low + span,)).resolve(None)
    stored = torch.full((1, 1, 1), float(value))
    assert abs(float(inverse(affine, forward(affine, stored))) - value) < 0.5


def test_an_affine_map_is_applied_to_each_band():
    affine = BandAffine((2, -3), (1, 0))
    assert forward(affine, X)[:, 0, 4].tolist() == [201, -300]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32"])
def test_rounding_is_half_to_even_and_saturates(dtype):
    info = np.iinfo(dtype)
    values = [0.5, 1.5, 2.5, 3.49, 1e12, -1e12, float("inf"), -float("inf")]
    expected = [0, 2, 2, 3, info.max, info.min, info.max, info.min]
    found = to_dtype(torch.tensor([[values]]), dtype, None)
    assert found.dtype == np.dtype(dtype) and found[0, 0].tolist() == expected


@pytest.mark.parametrize("dtype, nodata, value, stored", [
    ("uint8", 0, 0.2, 1), ("uint8", 255, 300.0, 254), ("uint8", 7, 7.0, 6), ("int16", -9999, -9999.0, -9998),
    ("int16", -32768, -1e6, -32767), ("uint16", 65535, 65535.0, 65534), ("int32", -2147483648, -1e12, -2147483647),
    ("uint8", 256, 255.0, 255), ("uint8", -1, 0.0, 0), ("uint8", 3.5, 3.5, 4), ("uint8", float("nan"), 0.0, 0)])
def test_a_valid_number_never_becomes_nodata(dtype, nodata, value, stored):
    assert to_dtype(torch.tensor([[[value]]]), dtype, nodata).item() == stored


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nodata", [0.0, -9999.0, 1e30])
def test_a_valid_float_moves_by_one_step_only(dtype, nodata):
    found = to_dtype(torch.tensor([[[nodata, 5.0]]]), dtype, nodata)[0, 0]
    assert found[1] == 5 and found[0] != np.dtype(dtype).type(nodata)
    assert abs(float(found[0]) - nodata) <= abs(nodata) * 1.2e-7 + 1e-44
