"""Fit model: `geoi2i fit`."""

import os

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
)

from .. import models
from ..text import tr
from .base import FOLLOWED, Algorithm, given

KINDS = ("linear", "moments", "transport", "histogram")


class FitModel(Algorithm):
    key = "fit"
    title = "Fit model"
    section = "Models"
    words = ("harmonise", "harmonisation", "histogram matching", "linear regression", "colour transfer",
             "optimal transport", "domain adaptation", "image-to-image translation")
    purpose = ("Solves for a model in one or two passes over the rasters, without training: seconds instead of "
               "hours.\n\n"
               "linear is for rasters that show the same ground pixel by pixel. moments (mean and standard deviation), "
               "transport (mean and covariance) and histogram (the whole distribution) are for rasters of any places. "
               "Translate raster offers the model from then on.\n\n"
               "Example: KIND linear; SOURCE landsat.tif; TARGET sentinel2.tif.")

    def initAlgorithm(self, configuration=None):
        self.add(QgsProcessingParameterEnum("KIND", tr("Kind"), options=list(KINDS), defaultValue="linear",
                                            usesStaticStrings=True), tr(
            "linear for paired rasters; moments, transport or histogram for unpaired ones. Example: transport"))
        self.add_sides()
        whole = QgsProcessingParameterNumber.Type.Integer
        self.add(QgsProcessingParameterNumber("NEIGHBOURHOOD", tr("Neighbourhood [pixels]"), whole, None, True, 1, 15),
                 tr("linear weights so many by so many pixels; odd. Empty: what does best on rows that are held out. "
                    "Example: 3"))
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", tr("Folder of the model")), tr(
            "A new folder, whose name is the model's. Example: models/harmonised"))

    def checkParameterValues(self, parameters, context):
        if given(parameters, "NEIGHBOURHOOD"):
            if self.parameterAsEnumString(parameters, "KIND", context) != "linear":
                return False, tr("Only linear looks at a neighbourhood: leave it empty, or choose linear.")
            if self.parameterAsInt(parameters, "NEIGHBOURHOOD", context) % 2 == 0:
                return False, tr("A neighbourhood has a pixel in its middle: choose an odd number.")
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters, context, feedback):
        self.rasters = self.sides(parameters, context)
        return True

    def processAlgorithm(self, parameters, context, feedback):
        folder = os.path.abspath(self.parameterAsString(parameters, "OUTPUT", context))
        arguments = ["fit", self.parameterAsEnumString(parameters, "KIND", context), "--output", folder, *FOLLOWED]
        arguments += self.paths_of_sides(context, feedback)
        for name in given(parameters, "NEIGHBOURHOOD"):
            arguments += ["--" + name.lower(), self.parameterAsString(parameters, name, context)]
        self.work(arguments, feedback)
        if not os.path.isfile(os.path.join(folder, "manifest.json")):
            raise QgsProcessingException(tr("The worker ended without a model in {}: run Check installation.").format(
                folder))
        models.remember(folder)
        return {"OUTPUT": folder}
