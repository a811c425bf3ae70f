"""What the QGIS plugin does with the lines and the manifests it reads, without QGIS."""

import math
import sys
import types


def hear(content: bytes) -> None:
    """The plugin's own listener, on lines as a pipe hands them over."""
    listener = _worker()._Listener(Feedback(), {})
    for line in content.decode("utf-8", "replace").split("\n"):
        listener.hear("out", line.rstrip("\r\n"))
        listener.hear("err", line)


def describe(folder: str) -> None:
    """What a dialog shows of a model folder."""
    _stub()
    from geoi2i.plugin import models

    manifest = models.find(folder)
    if manifest is not None:
        assert_text(models.summary(manifest))
        assert_text(manifest.get("title", ""))


class Feedback:
    """Takes what Qt takes, and nothing else."""

    def setProgress(self, value):
        assert isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 100, value

    def setProgressText(self, text):
        assert_text(text)

    pushInfo = pushConsoleInfo = pushWarning = setProgressText


def assert_text(text) -> None:
    assert isinstance(text, str), type(text)
    text.encode("utf-16", "surrogatepass")


def _worker():
    _stub()
    from geoi2i.plugin import worker

    return worker


def _stub() -> None:
    """Names that the plugin imports from QGIS."""

    class Anything(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (Exception,), {"translate": staticmethod(lambda context, text: text)})

    for name in ("qgis", "qgis.core", "qgis.utils", "qgis.PyQt", "qgis.PyQt.QtCore", "qgis.PyQt.QtGui"):
        if name not in sys.modules:
            sys.modules[name] = module = Anything(name)
            module.__path__ = []
