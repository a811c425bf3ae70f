"""What is done while torch is imported, which takes longer than all else before a run."""

import contextlib
import importlib
import os
import threading
from collections.abc import Iterator

import click


def look_ahead(sources: list[tuple[str, str]], bands: tuple[int, ...] | None, limits) -> None:
    """Imports torch in a thread for the command that is running, and reads the header of a single input meanwhile.

    Args:
        sources: as `inputs.expand` gives them.
        bands: 1-based bands of each.

    Raises:
        RasterError: where the single input is missing or of no use, which is then said before torch is there.
    """
    from ..core.raster.source import RasterSource

    click.get_current_context().with_resource(importing_torch([path for path, _ in sources]))
    if len(sources) == 1:
        RasterSource.open(sources[0][0], bands, limits)


@contextlib.contextmanager
def importing_torch(paths: list[str]) -> Iterator[None]:
    """While it lasts, torch is being imported, where one of the files is there; afterwards it has been.

    An interpreter that ends meanwhile may abort: the thread is waited for on every way out, and is not a daemon.
    """
    if not any(map(os.path.exists, paths)):
        yield
        return
    thread = threading.Thread(target=_import_torch, name="geoi2i-torch")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _import_torch() -> None:
    with contextlib.suppress(Exception):  # whoever needs it meets the same, and says so
        importlib.import_module("torch")
