"""Laws of the collector of error messages: what it refuses, and what it lets pass."""

import pytest
from wording import complaints


@pytest.mark.parametrize("text", [
    "/a/b.tif does not exist: check the path.",
    "Metric 'simm' is unknown: did you mean 'ssim'?",
    "--samples must be at least 1 (got 0).",
    "No model suits scene.tif:\n  a  2 bands\n  b  5 bands\nName one with --model."])
def test_a_plain_message_passes(text):
    assert complaints(text) == []


@pytest.mark.parametrize("text, found", [
    ("/a/b.tif does not exist.", "no remedy"),
    ("/a/b.tif and /a/c.tif differ: choose one.", "more than one path"),
    ("'x' is no number: give one.", "is no number"),
    (f"Give a shorter name{' than this' * 40}.", "a line of"),
    ("Two models in a row: leave one out.", "in a row"),
    ("The spread is negative: give another.", "spread")])
def test_what_is_wrong_is_named(text, found):
    assert found in "; ".join(complaints(text))
