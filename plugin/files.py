"""Files that appear whole or not at all."""

import contextlib
import os
import secrets


def put(content, path):
    """Writes bytes to a file: first under a name that nobody can guess, so that no link that stands there is followed.

    Raises:
        OSError: where the folder or the disk refuses.
    """
    temporary = os.path.join(os.path.dirname(path), "." + secrets.token_hex(8) + ".geoi2i-tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
