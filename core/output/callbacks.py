"""Where a run tells how it goes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Callbacks:
    """Where a run tells how it goes."""

    progress: Callable[[int, int], None] = lambda done, total: None
    """Rows done and rows in all, by the work that they take; raise from it to stop."""
    message: Callable[[str], None] = lambda text: None
    """Sentences for the user."""
    log: Callable[[dict[str, Any]], None] = lambda record: None
    """What happened, for the run's log: an `event`, and more about it."""
    warning: Callable[[str], None] | None = None
    """Sentences that the user should not miss; by default as `message`."""

    def warn(self, text: str) -> None:
        """Gives a sentence that the user should not miss."""
        (self.warning or self.message)(text)
