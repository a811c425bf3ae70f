"""Many rasters, one after the other: what fails is named, the rest are done."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_MOST_NAMED = 20


def run_batch(pairs: list[tuple[str, Path]], work: Callable[[str, Path], None], reporter,
              finished: dict, finish: Callable[[], None] | None = None, completed=None, at_once: int = 1,
              stop: Callable[[], None] | None = None) -> int:
    """Runs all and says at the end what became of each; `work` enters what it wrote in `finished`.

    Args:
        finish: called when all were tried, to write what belongs to all together.
        completed: of finished outputs; forgotten when all are done.
        at_once: how many are under way at a time.
        stop: ends those that are under way, when the user wants that.

    Returns:
        Exit code 0; 3 where some failed; 2 where all did.
    """
    from ..core.errors import Cancelled, Geoi2iError, one_line, sentence

    failures: dict[str, str] = {}
    tried: list[str] = []

    def attempt(source: str, target: Path) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            work(source, target)
            said = one_line(f"{source}{'' if str(target) == source else f' -> {target}'}")
        except Cancelled:
            raise
        except (Geoi2iError, OSError, MemoryError) as error:
            failures[source] = sentence(error)
            said = f"{source} failed: {failures[source]}"
        tried.append(source)
        reporter.message(f"{len(tried)}/{len(pairs)} {one_line(said)}")

    if at_once == 1:
        for pair in pairs:
            attempt(*pair)
    else:
        with ThreadPoolExecutor(at_once) as pool:
            try:
                for done in [pool.submit(attempt, *pair) for pair in pairs]:
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                stop()
                raise
    if finish:
        finish()
    if not failures:
        if completed:
            completed.forget()
        reporter.done({str(path): text for path, text in finished.items()})
        return 0
    longest = max(len(source) for source, _ in pairs)
    for source, target in pairs:
        became = f"failed  {failures[source]}" if source in failures else str(target)
        reporter.message(one_line(f"{source:<{longest}}  {became}"))
    reporter.done({str(path): text for path, text in finished.items()})
    code = 3 if len(failures) < len(pairs) else 2
    reporter.failed(_summary(list(map(one_line, failures)), len(pairs)), code)
    return code


def _summary(failed: list[str], tried: int) -> str:
    """How many rasters failed, and which: a line each, where there are several."""
    count = f"{len(failed)} of {tried} rasters failed:"
    if len(failed) == 1:
        return f"{count} {failed[0]}; see the reason above."
    named = [f"  {name}" for name in failed[:_MOST_NAMED]]
    more = [f"  and {len(failed) - _MOST_NAMED} more"] if len(failed) > _MOST_NAMED else []
    return "\n".join([count, *named, *more, "See the reasons above."])
