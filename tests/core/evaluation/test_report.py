"""The page of an evaluation needs nothing but itself, runs nothing from a raster, and is light."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from affine import Affine
from geoi2i.core.evaluation.charts import Line, chart, steps
from geoi2i.core.evaluation.evaluate import EvaluationOptions, evaluate
from geoi2i.core.evaluation.report import save_index, save_report
from scipy.ndimage import gaussian_filter

RNG = np.random.default_rng(0)
TRUTH = np.clip(gaussian_filter(RNG.normal(size=(3, 300, 260)), (0, 3, 3)) * 500 + 120, 1, 250).astype("uint8")
GUESS = np.clip(TRUTH * 1.02 + RNG.normal(0, 5, TRUTH.shape), 0, 255).astype("uint8")
EVIL = '<script>alert("x")</script> & Co'
VOID = {"meta", "img", "input", "link", "br"}


class Page(HTMLParser):
    """Elements with their attributes, and whether every element that opens also closes."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.wrong, self.texts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def full(make_raster, tmp_path):
    """An evaluation with everything in it, and its page."""
    place = Affine(10, 0, 500_000, 0, -10, 4_500_000)
    guess = make_raster(GUESS, "<b>guess.tif", names=(EVIL, "b", "c"), transform=place)
    coarse = TRUTH[:, :300, :260].reshape(3, 75, 4, 65, 4).mean((2, 4)).astype("uint8")
    evaluation = evaluate(
        guess, reference=make_raster(TRUTH, "r.tif", transform=place),
        source=make_raster(coarse, "s.tif", transform=place @ Affine.scale(4)),
        targets=[make_raster(TRUTH[:, ::-1].copy(), "t.tif", transform=place)],
        uncertainty=make_raster(np.full(TRUTH.shape, 5, "float32"), "u.tif", transform=place),
        options=EvaluationOptions(seams=0))
    text = save_report(evaluation, tmp_path / "report" / "index.html").read_text()
    return evaluation, text, Page(text)


def test_the_page_is_whole_and_asks_nothing_of_the_network(full):
    _, text, page = full
    assert not page.wrong and not page.open
    addresses = [value for _, attributes in page.elements for name, value in attributes.items()
                 if name in ("src", "href", "srcset", "action", "data")]
    assert addresses and all(a.startswith(("data:image/jpeg;base64,", "#")) for a in addresses)
    assert not re.search(r"https?://|@import|url\(", re.sub(r"data:[^\"]*", "", text))
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert len(text) < 1_500_000


def test_names_of_files_and_bands_are_text(full):
    _, _, page = full
    assert not [tag for tag, _ in page.elements if tag in ("script", "b")]
    assert any(EVIL in text for text in page.texts) and any("<b>guess.tif" in text for text in page.texts)


def test_everything_that_was_found_is_shown(full):
    evaluation, _, page = full
    shown = " ".join(page.texts)
    for _, result in evaluation.rows():
        assert result.score.name in shown
    for part in ("Consistency with the source", "Band by band", "Power spectra", "Calibration", "indow borders",
                 "Prediction minus reference", "all that 8 bits hold"):
        assert part in shown, part
    tags = [tag for tag, _ in page.elements]
    assert tags.count("details") == len(list(evaluation.rows()))
    assert tags.count("svg") == 3 * (3 + 1) + 1  # three comparisons with three bands and a spectrum; a calibration
    assert [a["type"] for tag, a in page.elements if tag == "input"] == ["range", "range"]
    assert tags.count("img") == 2 * 3


def test_an_index_links_the_pages(full, tmp_path):
    evaluation, _, _ = full
    place = tmp_path / "report" / "index.html"
    text = save_index([evaluation, evaluation], [place, place], tmp_path / "all.html").read_text()
    page = Page(text)
    assert not page.wrong and not page.open
    assert [a["href"] for tag, a in page.elements if tag == "a"] == ["report/index.html"] * 2
    assert not [tag for tag, _ in page.elements if tag == "script"] and "PSNR" in " ".join(page.texts)


def points(svg, style):
    found = re.search(rf'class="curve {style}" points="([^"]*)"', svg)[1]
    return np.array([[float(v) for v in point.split(",")] for point in found.split()])


def test_a_chart_shows_its_numbers_in_proportion():
    x = np.array([0.0, 1, 2, 4])
    drawn = points(chart([Line("a", x, 3 * x, "prediction")], "x", "y"), "prediction")
    widths, heights = np.diff(drawn, axis=0).T
    assert widths[2] == pytest.approx(2 * widths[0], abs=0.2) and widths[0] > 50
    assert heights / widths == pytest.approx([heights[0] / widths[0]] * 3, rel=0.01) and (heights < 0).all()


def test_logarithmic_axes_make_a_power_law_straight_and_leave_out_what_has_no_logarithm():
    x = np.array([1.0, 10, 100, 1000])
    drawn = points(chart([Line("a", x, np.append(x[:3] ** -2, 0), "other")], "x", "y", True, True), "other")
    assert len(drawn) == 3 and np.diff(drawn, 2, axis=0) == pytest.approx(np.zeros((1, 2)), abs=0.2)
    assert chart([Line("a", x, 0 * x, "other")], "x", "y", y_log=True) == ""


def test_steps_outline_a_histogram():
    x, y = steps(np.array([0, 1, 2]), np.array([5, 7]))
    assert x.tolist() == [0, 1, 1, 2] and y.tolist() == [5, 5, 7, 7]
