"""The lists of models and methods in dialogs; in the model designer a field whose value may come from elsewhere."""

import os

from processing.gui.wrappers import DIALOG_STANDARD, WidgetWrapper
from qgis.core import QgsProcessingParameterString, QgsProject
from qgis.gui import QgsGui

from .method_widget import MethodWidget
from .model_widget import ModelWidget


class _Wrapper(WidgetWrapper):
    """Between Processing and a widget with `value`, `set_value` and `changed`.

    A factory of QGIS's registry would be the newer way. Python cannot be one: what it makes is taken for a new object
    when it comes back from C++, and the first one is let go (tried in QGIS 3.22).
    """

    make = None

    def __new__(cls, parameter, dialog, *more, **named):
        if type(dialog).__name__ != "ModelerParametersDialog":
            return super().__new__(cls, parameter, dialog, *more, **named)
        # A constant, a model input, an output of a step or an expression: what QGIS has for every text.
        optional = bool(parameter.flags() & type(parameter).Flag.FlagOptional)
        plain = QgsProcessingParameterString(parameter.name(), parameter.description(), parameter.defaultValue(), False,
                                             optional)
        field = QgsGui.processingGuiRegistry().createModelerParameterWidget(dialog.model, dialog.childId, plain,
                                                                            dialog.context)
        field.setDialog(dialog)
        field.parameter = plain  # QGIS keeps no copy
        return field

    def createWidget(self):
        definition = self.parameterDefinition()
        self.inner = self.make(bool(definition.flags() & type(definition).Flag.FlagOptional))
        self.inner.changed.connect(lambda: self.widgetValueHasChanged.emit(self))
        return self.inner

    def setValue(self, value):
        self.inner.set_value(value if isinstance(value, str) else "")

    def value(self):
        return self.inner.value()


class MethodWrapper(_Wrapper):
    make = MethodWidget


class ModelWrapper(_Wrapper):
    """Asks which model suits the input, in the dialog of one run."""

    make = ModelWidget

    def postInitialize(self, wrappers):
        self.others = {wrapper.parameterDefinition().name(): wrapper for wrapper in wrappers}
        if self.dialogType != DIALOG_STANDARD or "INPUT" not in self.others:
            return
        for name in ("INPUT", "BANDS"):
            if name in self.others:
                self.others[name].widgetValueHasChanged.connect(self.look)
        self.look()

    def look(self, *_):
        """The input or its bands have changed: which model suits them now?"""
        bands = self.others["BANDS"].parameterValue() if "BANDS" in self.others else None
        self.inner.ask(path_of(self.others["INPUT"].parameterValue()), bands or ())


def path_of(value):
    """A path that the worker can read, for a value of a raster parameter; None where there is none."""
    layer = QgsProject.instance().mapLayer(value) if isinstance(value, str) else None
    if layer is not None:
        return layer.source() if layer.dataProvider().name() == "gdal" else None
    return value if isinstance(value, str) and os.path.exists(value) else None
