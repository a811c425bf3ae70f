"""The figures of a training, line by line."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from ..core.files import replacing


class RunLog:
    """The run's figures as JSON lines and, where TensorBoard is installed, as its events."""

    def __init__(self, path: Path, step: int):
        """Opens the log at `path` for a run that stands at `step`."""
        self.path = path
        if self.path.exists():  # lines of steps that a resumed run makes again
            kept = [line for line in iterate_log(self.path) if line["step"] <= step]
            with replacing(self.path) as part:
                part.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self.board = None
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(path.parent / "tensorboard", purge_step=step)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Adds the figures of a step."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in figures.items()}}) + "\n")
        for name, value in figures.items() if self.board else ():
            self.board.add_scalar(name, value, step)
        if self.board:
            self.board.flush()


def iterate_log(path: Path) -> Iterator[dict[str, float]]:
    """The lines of a run's log; one that a fall cut off is left out."""
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)
