"""What the forms share: how parameters are added, and the words that every command gets."""

import os

from qgis.core import (
    QgsExpressionContext,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterMultipleLayers,
)
from qgis.PyQt.QtCore import QVariant
from qgis.PyQt.QtGui import QIcon

from .. import layers, styling, worker
from ..environment import ROOT
from ..text import tr

FOLLOWED = ["--events", "json", "--cancel-on-stdin"]
"""Options of every command that the worker follows."""


class Algorithm(QgsProcessingAlgorithm):
    """A form over a command; a subclass says its `key`, `title`, `section` and `purpose`, and in `options` which
    parameter stands for an option of the command line that is called otherwise."""

    key = ""
    title = ""
    section = ""
    purpose = ""
    words = ()
    options = {}

    def createInstance(self):
        return type(self)()

    def name(self):
        return self.key

    def displayName(self):
        return tr(self.title)

    def groupId(self):
        return self.section.lower()

    def group(self):
        return tr(self.section)

    def shortHelpString(self):
        return tr(self.purpose)

    def shortDescription(self):
        return tr(self.purpose).split("\n")[0]

    def tags(self):
        return [tr(word) for word in self.words]

    def icon(self):
        return QIcon(os.path.join(ROOT, "resources", "icons", "geoi2i.svg"))

    def add(self, parameter, help_text, advanced=False):
        """Adds a parameter with its help."""
        parameter.setHelp(help_text)
        if advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
        self.addParameter(parameter)

    def label(self, name):
        """What a parameter is called in a message: its label, between quotes."""
        return tr('"{}"').format(_label(self.parameterDefinition(name)))

    def work(self, arguments, feedback, outputs=(), if_cancelled=None):
        """Runs a command as `worker.run` does; messages name the labels of this form."""
        known = {parameter.name(): _label(parameter) for parameter in self.parameterDefinitions()}
        labels = {"--" + name.lower().replace("_", "-"): label for name, label in known.items()}
        labels.update((option, known[name]) for option, name in self.options.items())
        return worker.run(arguments, feedback, outputs, if_cancelled, labels)

    def rasters_to_write(self, parameters, context, layers_shown, *names):
        """Name -> absolute path, for those of the raster outputs that are wanted; not while preparing: what is to be
        loaded is kept in the context of the thread.

        Raises:
            QgsProcessingException: where the project shows one of the files, or it would be no GeoTIFF.
        """
        paths = ((name, self.parameterAsOutputLayer(parameters, name, context)) for name in given(parameters, *names))
        return {name: layers.geotiff_to_write(path, layers_shown) for name, path in paths if path}

    def load_as(self, name, path, looks, context):
        """Gives an output its looks, where it will be loaded; `looks` has a title of its own, which stands back behind
        a name that the user has given."""
        if context.willLoadLayerOnCompletion(path):
            looks.generic = self.parameterDefinition(name).description()
            styling.style(context.layerToLoadOnCompletionDetails(path), looks)

    def add_listed(self, parameter, wrapper, help_text):
        """Adds a text that dialogs show as a list, by a class in `widgets`."""
        parameter.setMetadata({"widget_wrapper": {"class": "geoi2i.plugin.widgets." + wrapper}})
        self.add(parameter, help_text)

    def add_sides(self, empty=""):
        """The rasters that a model is made of, as layers; `empty` says what it means to name none."""
        kind = QgsProcessing.SourceType.TypeRaster
        self.add(QgsProcessingParameterMultipleLayers("SOURCE", tr("Source rasters"), kind, optional=bool(empty)), tr(
            "Rasters of the sensor to translate from. {}Example: junocam/*.tif").format(empty))
        self.add(QgsProcessingParameterMultipleLayers("TARGET", tr("Target rasters"), kind, optional=bool(empty)), tr(
            "Rasters of the sensor to translate to. {}Example: opal.tif").format(empty))

    def sides(self, parameters, context):
        """SOURCE and TARGET -> what the worker needs to know of their layers; for the main thread."""
        found = {name: self.parameterAsLayerList(parameters, name, context)
                 for name in given(parameters, "SOURCE", "TARGET")}
        for name, rasters in found.items():
            gone = [layer.name() for layer in rasters if not layer.isValid() or layer.dataProvider().name() != "gdal"]
            if gone or not rasters:
                raise QgsProcessingException(tr("{} holds layers that are not raster files: {}. Save them as GeoTIFF "
                                                "first.").format(self.label(name), ", ".join(gone) or "-"))
        return {name: [layers.Source(layer) for layer in rasters] for name, rasters in found.items()}

    def paths_of_sides(self, context, feedback):
        """The words that tell a command of the rasters that `sides` has found."""
        return [word for name, sources in self.rasters.items() for source in sources
                for word in ("--" + name.lower(), source.path(None, None, context, feedback))]

    def add_device(self):
        choice = QgsProcessingParameterEnum("DEVICE", tr("Compute on"), options=["auto", "cpu", "cuda"],
                                            defaultValue="auto", usesStaticStrings=True)
        self.add(choice, tr("Where to compute: auto takes an NVIDIA GPU where there is one. Example: cpu"), True)

    def add_cutline(self, help_text):
        self.add(QgsProcessingParameterFeatureSource("CUTLINE", tr("Only inside these polygons"),
                                                     [QgsProcessing.SourceType.TypeVectorPolygon], None, True),
                 help_text, True)

    def cutline(self, parameters, context, feedback):
        """The words that tell a command of CUTLINE, whose layer is written to a GeoJSON file where it is none; for the
        main thread."""
        if not given(parameters, "CUTLINE"):
            return []
        path = self.parameterAsCompatibleSourceLayerPath(parameters, "CUTLINE", context, ["geojson"], "geojson",
                                                         feedback)
        if not path:
            raise QgsProcessingException(self.invalidSourceError(parameters, "CUTLINE"))
        return ["--cutline", os.path.abspath(path)]


def _label(parameter):
    """The label of a parameter, without its unit."""
    return parameter.description().partition(" [")[0]


def given(parameters, *names):
    """The names of those parameters that have a value."""
    return [name for name in names if _value(parameters.get(name)) not in (None, "", [])]


def _value(value):
    """What a parameter was given: the batch dialog wraps outputs, those that are left empty too."""
    if isinstance(value, QgsProcessingOutputLayerDefinition):
        return value.sink.valueAsString(QgsExpressionContext(), "")[0]
    return None if isinstance(value, QVariant) and value.isNull() else value
