"""The choice of a model in a dialog: those there are, any folder, and which of them suits the input and why."""

import json
import os

from qgis.PyQt.QtCore import QCoreApplication, QProcess, QProcessEnvironment, QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import QFileDialog, QWidget

from . import environment, lists, models, worker
from .text import tr

_PAUSE_MS = 200
"""How long nothing must change before the worker is asked."""
_MOST_LINES = 6


class ModelWidget(QWidget):
    """A list of models, a button for a folder, and a line a model that says whether it suits."""

    changed = pyqtSignal()

    def __init__(self, optional):
        super().__init__()
        self.choice, self.reason, self.asking = lists.List(), lists.note(), None
        self.path, self.bands = None, ()
        if optional:
            self.choice.addItem(tr("(the one that suits the input)"), "")
        for name, manifest in models.installed().items():
            self.choice.addItem(f"{name}: {models.summary(manifest)}", name)
        self.setLayout(lists.with_button(self.choice, tr("Choose a model folder"), self.pick, self.reason))
        self.waiting = QTimer(self)
        self.waiting.setSingleShot(True)
        self.waiting.setInterval(_PAUSE_MS)
        self.waiting.timeout.connect(self.begin)
        self.choice.editTextChanged.connect(self.chosen)
        self.chosen()

    def value(self):
        return self.choice.value()

    def set_value(self, value):
        self.choice.set_value(value)

    def pick(self):
        folder = QFileDialog.getExistingDirectory(self, tr("Model folder"))
        if folder:
            self.set_value(folder)

    def chosen(self, *_):
        """What the chosen model is for, and whether it suits."""
        self.show_lines([])
        if self.path:
            self.ask(self.path, self.bands)
        self.changed.emit()

    def ask(self, path, bands=()):
        """Has the worker asked which models suit a raster, or some of its bands; the answer comes when it comes.

        Args:
            path: that the worker can read, or None.
            bands: counted from 1; empty: those that the models find.
        """
        self.forget()
        self.path, self.bands = path, tuple(bands)
        self.show_lines([tr("checking ...")] if path else [])
        if path:
            self.waiting.start()

    def begin(self):
        try:
            python = environment.interpreter()
        except environment.NoInterpreter as error:
            self.show_lines([str(error)])
            return
        # Not a child of this widget: it may outlive the dialog for a moment. A bound method is let go with its widget.
        self.asking = asking = QProcess(QCoreApplication.instance())
        surroundings = QProcessEnvironment()
        for key, value in models.surroundings(environment.clean(os.environ), self.value()).items():
            surroundings.insert(key, value)
        asking.setProcessEnvironment(surroundings)
        asking.finished.connect(self.answer)
        asking.finished.connect(asking.deleteLater)
        bands = ["--bands", ",".join(map(str, self.bands))] if self.bands else []
        asking.start(python, ["-I", "-X", "utf8", worker.BOOT, "models", "list", "--json", "--for", self.path, *bands])

    def answer(self, *_):
        asking, self.asking = self.asking, None
        text = bytes(asking.readAllStandardOutput()).decode("utf-8", "replace")
        try:
            found = models.verdicts([json.loads(line) for line in text.splitlines()], self.value())
        except (ValueError, KeyError, TypeError, AttributeError):
            found = []
        self.show_lines(found or [tr("This input cannot be checked: a run will say why.")])

    def show_lines(self, lines):
        """The title of the chosen model, and what was found."""
        manifest = models.find(self.value())
        lines = [title for title in [(manifest or {}).get("title")] if title] + lines
        more = [tr("and {} others").format(len(lines) - _MOST_LINES)] if len(lines) > _MOST_LINES else []
        self.reason.setText("\n".join(lines[:_MOST_LINES] + more))
        self.reason.setToolTip("" if not more else "\n".join(lines))

    def forget(self):
        self.waiting.stop()
        asking, self.asking = self.asking, None
        if asking is not None:
            asking.finished.disconnect(self.answer)
            asking.kill()
