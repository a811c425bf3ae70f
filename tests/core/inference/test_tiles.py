"""Laws of the windows: they cover the raster, start on the lattice, have one length, and reflect like numpy."""

import numpy as np
import pytest
from geoi2i.core.errors import RasterError
from geoi2i.core.inference.stream import reflect
from geoi2i.core.inference.tiles import Tiling
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def tilings(draw):
    tile = draw(st.integers(1, 300))
    return Tiling(tile, draw(st.just(tile // 2) | st.integers(0, tile // 2)), draw(st.integers(0, 100)),
                  draw(st.sampled_from([1, 2, 3, 4, 8, 16])), draw(st.booleans()))


@given(tilings(), st.integers(1, 3000))
def test_windows_cover_every_pixel_once_but_for_the_overlap(tiling, size):
    spans = tiling.spans(size)
    assert spans[0].start == 0 and spans[-1].stop == size
    for a, b in zip(spans, spans[1:]):
        assert a.stop == a.start + a.length == b.start + tiling.lattice_overlap
    for a, c in zip(spans, spans[2:]):
        assert a.stop <= c.start, "a pixel is blended of two windows at most"


@given(tilings(), st.integers(1, 3000))
def test_windows_start_on_the_lattice_and_have_one_length(tiling, size):
    spans = tiling.spans(size)
    assert all(span.start % tiling.multiple == span.length % tiling.multiple == 0 for span in spans)
    assert len({span.length for span in spans}) == 1
    assert tiling.lattice_margin % tiling.multiple == 0 <= tiling.lattice_margin - tiling.margin < tiling.multiple


@given(tilings(), st.integers(1, 3000))
def test_no_window_is_longer_than_asked_and_none_is_wasted(tiling, size):
    spans, step = tiling.spans(size), tiling.multiple
    longest = max(-(-tiling.tile // step) * step, 2 * tiling.lattice_overlap)
    assert spans[0].length == longest if tiling.fixed else spans[0].length <= longest
    useful = longest - tiling.lattice_overlap
    assert len(spans) == max(1, -(-(size - tiling.lattice_overlap) // useful))


@given(st.integers(1, 50), st.integers(0, 120), st.integers(0, 120))
def test_reflection_is_that_of_numpy(size, before, after):
    values = np.arange(size)
    expected = np.pad(values, (before, after), mode="reflect") if size > 1 else np.zeros(before + 1 + after, int)
    assert np.array_equal(reflect(-before, size + after, size), expected)


@pytest.mark.parametrize("tile, overlap", [(0, 0), (-4, 0), (64, -1), (64, 33), (1, 1)])
def test_impossible_windows_are_refused_in_a_sentence(tile, overlap):
    with pytest.raises(RasterError, match=r"--overlap.*\.$"):
        Tiling(tile, overlap, 0, 1)
