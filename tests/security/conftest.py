"""The folder that tests of security share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from places import Place


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)
