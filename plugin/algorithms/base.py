"""What the forms share: how parameters are added, and the words that every command gets."""

import os

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
)
from qgis.PyQt.QtGui import QIcon

from ..environment import ROOT
from ..text import tr

FOLLOWED = ["--events", "json", "--cancel-on-stdin"]
"""Options of every command that the worker follows."""


class Algorithm(QgsProcessingAlgorithm):
    """A form over a command; a subclass says its `key`, `title`, `section` and `purpose`."""

    key = ""
    title = ""
    section = ""
    purpose = ""
    words = ()

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


def given(parameters, *names):
    """The names of those parameters that have a value."""
    return [name for name in names if parameters.get(name) not in (None, "", [])]
