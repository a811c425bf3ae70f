"""Many rasters, one after the other: what fails is named, the rest go on."""

import os
from collections.abc import Callable
from pathlib import Path

_MEMORY = ".geoi2i-batch.jsonl"


def batch_memory(pairs: list[tuple[str, Path]], resume: bool):
    """What remembers the outputs of a batch that are finished, beside them; None where that is not wanted."""
    from ..core.journal import Memory

    if len(pairs) < 2:
        return None
    folder = Path(os.path.commonpath([target.absolute().parent for _, target in pairs]))
    folder.mkdir(parents=True, exist_ok=True)
    memory = Memory(folder / _MEMORY)
    if not resume:
        memory.forget()
    return memory if resume else None


def run_batch(pairs: list[tuple[str, Path]], work: Callable[[str, Path], None], reporter,
              finished: dict, finish: Callable[[], None] | None = None, memory=None) -> int:
    """Runs all and says at the end what became of each; `work` enters what it wrote in `finished`.

    Args:
        finish: called when all were tried, to write what belongs to all together.
        memory: of `batch_memory`; forgotten when all are done.

    Returns:
        Exit code 0; 3 where some failed; 2 where all did.
    """
    from ..core.errors import Cancelled, Geoi2iError

    failures: dict[str, str] = {}
    for number, (source, target) in enumerate(pairs, 1):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            work(source, target)
            reporter.message(f"{number}/{len(pairs)} {source}{'' if str(target) == source else f' -> {target}'}")
        except Cancelled:
            raise
        except (Geoi2iError, OSError) as error:
            failures[source] = str(error)
            reporter.message(f"{number}/{len(pairs)} {source} failed: {error}")
    if finish:
        finish()
    if not failures:
        if memory:
            memory.forget()
        reporter.done({str(path): text for path, text in finished.items()})
        return 0
    longest = max(len(source) for source, _ in pairs)
    for source, target in pairs:
        reporter.message(f"{source:<{longest}}  {'failed  ' + failures[source] if source in failures else f'{target}'}")
    reporter.done({str(path): text for path, text in finished.items()})
    code = 3 if len(failures) < len(pairs) else 2
    reporter.failed(f"{len(failures)} of {len(pairs)} rasters failed: {'; '.join(failures)}", code)
    return code
