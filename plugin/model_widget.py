"""The choice of a model in a dialog: those there are, any folder, and which of them suits the input and why."""

import json
import os

from processing.gui.wrappers import DIALOG_STANDARD, WidgetWrapper
from qgis.PyQt.QtCore import QCoreApplication, QProcess, QProcessEnvironment, Qt
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from . import environment, models, worker
from .text import tr


class ModelWidget(QWidget):
    """A list of models, a button for a folder, and a line that says what suits."""

    def __init__(self, optional):
        super().__init__()
        self.choice, self.reason, self.asking = QComboBox(), QLabel(), None
        self.choice.setEditable(True)
        if optional:
            self.choice.addItem(tr("(the one that suits the input)"), "")
        for name, manifest in models.installed().items():
            self.choice.addItem(f"{name}: {models.summary(manifest)}", name)
        button = QToolButton()
        button.setText("\u2026")
        button.setToolTip(tr("Choose a model folder"))
        button.clicked.connect(self.pick)
        self.reason.setWordWrap(True)
        self.reason.setTextFormat(Qt.TextFormat.PlainText)  # what a manifest says is no HTML
        row = QHBoxLayout()
        row.addWidget(self.choice, 1)
        row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self.reason)
        self.choice.currentIndexChanged.connect(self.describe)
        self.describe()

    def value(self):
        index = self.choice.currentIndex()
        shown = index >= 0 and self.choice.currentText() == self.choice.itemText(index)
        return self.choice.itemData(index) if shown else self.choice.currentText().strip()

    def set_value(self, value):
        index = self.choice.findData(value or "")
        if index >= 0:
            self.choice.setCurrentIndex(index)
        else:
            self.choice.setEditText(value or "")

    def pick(self):
        folder = QFileDialog.getExistingDirectory(self, tr("Model folder"))
        if folder:
            self.set_value(folder)

    def describe(self, *_):
        """What the chosen model is for."""
        manifest = models.find(self.value())
        if manifest:
            self.reason.setText(manifest.get("title", ""))

    def ask(self, path):
        """Asks the worker which models suit a raster; the answer comes when it comes."""
        self.forget()
        try:
            python = environment.interpreter()
        except environment.NoInterpreter as error:
            self.reason.setText(str(error))
            return
        # Not a child of this widget: it may outlive the dialog for a moment. A bound method is let go with its widget.
        self.asking = asking = QProcess(QCoreApplication.instance())
        surroundings = QProcessEnvironment()
        for key, value in environment.clean(os.environ).items():
            surroundings.insert(key, value)
        asking.setProcessEnvironment(surroundings)
        asking.finished.connect(self.answer)
        asking.finished.connect(asking.deleteLater)
        asking.start(python, ["-I", "-X", "utf8", worker.BOOT, "models", "list", "--json", "--for", path])

    def answer(self, *_):
        asking, self.asking = self.asking, None
        text = bytes(asking.readAllStandardOutput()).decode("utf-8", "replace")
        try:
            found = [json.loads(line) for line in text.splitlines()]
            suits = [model for model in found if not model["misfits"]]
            lines = [tr("{} suits the input: {}.").format(model["name"], model["title"]) for model in suits]
            lines = lines or [tr("{} does not suit the input: {}.").format(model["name"], "; ".join(model["misfits"]))
                              for model in found]
        except (ValueError, KeyError, TypeError):
            return
        self.reason.setText("\n".join(lines))

    def forget(self):
        asking, self.asking = self.asking, None
        if asking is not None:
            asking.finished.disconnect(self.answer)
            asking.kill()


class ModelWrapper(WidgetWrapper):
    """Puts the widget into the dialogs of Processing."""

    def createWidget(self):
        optional = bool(self.parameterDefinition().flags() & type(self.parameterDefinition()).Flag.FlagOptional)
        self.inner = ModelWidget(optional)
        self.inner.choice.editTextChanged.connect(lambda *_: self.widgetValueHasChanged.emit(self))
        return self.inner

    def setValue(self, value):
        self.inner.set_value(value)

    def value(self):
        return self.inner.value()

    def postInitialize(self, wrappers):
        if self.dialogType != DIALOG_STANDARD:
            return
        for wrapper in wrappers:
            if wrapper.parameterDefinition().name() == "INPUT":
                wrapper.widgetValueHasChanged.connect(self.look)
                self.look(wrapper)

    def look(self, wrapper):
        """The input has changed: which model suits it now?"""
        value = wrapper.parameterValue()
        layer = self.layer_of(value)
        if layer is not None:
            self.inner.ask(layer)

    @staticmethod
    def layer_of(value):
        """A path that the worker can read, for a value of a raster parameter; None where there is none."""
        from qgis.core import QgsProject

        layer = QgsProject.instance().mapLayer(value) if isinstance(value, str) else None
        if layer is not None:
            return layer.source() if layer.dataProvider().name() == "gdal" else None
        return value if isinstance(value, str) and os.path.exists(value) else None
