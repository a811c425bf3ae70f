"""What is made once in a run and then shared: the handles of each file."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

_T = TypeVar("_T")
_MOST_SHARED = 64
_shared: OrderedDict[tuple[Hashable, ...], Any] = OrderedDict()
_scopes, _scope_lock = 0, threading.Lock()


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """While it lasts, each file is inspected and opened once, whoever asks: for a run, in which files do not change."""
    global _scopes
    with _scope_lock:
        _scopes += 1
    try:
        yield
    finally:
        with _scope_lock:
            _scopes -= 1
            if not _scopes:
                _shared.clear()


def shared(key: tuple[Hashable, ...], make: Callable[..., _T]) -> _T:
    """`make(*key)`: what was made of this key before in a run, or a new one."""
    with _scope_lock:
        if not _scopes:
            return make(*key)
        found = _shared.setdefault(key, make(*key))
        _shared.move_to_end(key)
        while len(_shared) > _MOST_SHARED:
            _shared.popitem(last=False)
        return found
