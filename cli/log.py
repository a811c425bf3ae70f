"""The log of a run: a line of JSON for everything that happened, with its time."""

import json
from datetime import UTC, datetime

from ..core.run import Watch


def watch(reporter, text: str, path: str | None) -> Watch:
    """What a run tells, shown by the reporter and, if there is a path, written to the log."""

    def record(facts: dict) -> None:
        if path:
            line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts})
            with open(path, "a", encoding="utf-8") as log:
                log.write(line + "\n")

    def notice(sentence: str) -> None:
        reporter.message(sentence)
        record({"event": "notice", "text": sentence})

    return Watch(lambda done, total: reporter.progress(done, total, text), notice, record)
