"""The figures of a training, line by line."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..core.documents import decode, parse_json
from ..core.writing import appending, write_whole


class RunLog:
    """The run's figures as JSON lines and, where TensorBoard is installed, as its events."""

    def __init__(self, path: Path, step: int):
        """Opens the log at `path` for a run that stands at `step`."""
        self.path = path
        if self.path.exists():  # lines of steps that a resumed run makes again
            kept = [line for line in iterate_log(self.path) if line["step"] <= step]
            write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.board = None
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(path.parent / "tensorboard", purge_step=step)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Adds the figures of a step."""
        with appending(self.path) as file:
            file.write((json.dumps({"step": step, **{k: round(v, 6) for k, v in figures.items()}}) + "\n").encode())
        if self.board:
            for name, value in figures.items():
                self.board.add_scalar(name, value, step)
            self.board.flush()

    def show(self, step: int, picture: np.ndarray) -> None:
        """Adds a preview (3,h,w) to TensorBoard's events."""
        if self.board:
            self.board.add_image("source, translation, target", picture, step)


def iterate_log(path: Path) -> Iterator[dict[str, float]]:
    """The lines of a run's log; one that was cut off is left out."""
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError):
            found = parse_json(decode(line))
            if isinstance(found, dict) and isinstance(found.get("step"), int):
                yield found
