"""What the tests of security share: a folder as somebody else may have left it, and the command line in it."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "durability"))
sys.path.insert(0, str(Path(__file__).parent.parent))
import numpy as np
import victims
from conftest import write


@dataclass
class Place:
    """A scene, a victim's folder and an empty folder for what is made."""

    folder: Path

    def __post_init__(self):
        self.victim, self.out = self.folder / "victim", self.folder / "out"
        self.victim.mkdir()
        (self.victim / "sub").mkdir()
        (self.victim / "sub" / "diary.txt").write_text("mine")
        (self.victim / "diary.txt").write_text("mine")
        self.out.mkdir()
        self.scene = self.raster("scene.tif")

    def raster(self, name: str) -> str:
        pixels = np.random.default_rng(0).integers(1, 200, (3, 60, 40), "uint8")
        return write(self.folder / name, pixels)

    def run(self, *arguments: str, code: int) -> str:
        """What `geoi2i ARGUMENTS` says; it must end with `code`, without a traceback, and leave the victim alone."""
        before = listing(self.victim)
        end = victims.run(list(arguments), self.folder)
        assert end.code == code and "Traceback" not in end.text, end.text
        assert listing(self.victim) == before
        return end.text


def listing(folder: Path) -> dict:
    """Every path below a folder, with what tells whether it was touched."""
    facts = {path: os.lstat(path) for path in (folder, *folder.rglob("*"))}
    return {str(path): (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns)
            for path, status in facts.items()}

