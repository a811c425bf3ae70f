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

KINDS = ("linear", "local", "moments", "transport", "histogram")


class FitModel(Algorithm):
    key = "fit"
    title = "Fit model"
    section = "Models"
    words = ("harmonise", "harmonisation", "haze", "illumination", "histogram matching", "linear regression",
             "colour transfer", "optimal transport", "domain adaptation", "image-to-image translation")
    purpose = ("Solves for a model in one or two passes over the rasters, without training: seconds instead of "
               "hours.\n\n"
               "linear is for rasters that show the same ground pixel by pixel. local is for a raster and a reference "
               "that overlap, of any pixel size: its gains and offsets change over the map, against haze or uneven "
               "light. moments (mean and standard deviation), transport (mean and covariance) and histogram (the whole "
               "distribution) are for rasters of any places. Translate raster offers the model from then on.\n\n"
               "Example: KIND linear; SOURCE landsat.tif; TARGET sentinel2.tif.")

    def initAlgorithm(self, configuration=None):
        self.add(QgsProcessingParameterEnum("KIND", tr("Kind"), options=list(KINDS), defaultValue="linear",
                                            usesStaticStrings=True), tr(
            "linear or local for paired rasters; moments, transport or histogram for others. Example: transport"))
        self.add_sides()
        whole = QgsProcessingParameterNumber.Type.Integer
        self.add(QgsProcessingParameterNumber("NEIGHBOURHOOD", tr("Neighbourhood [pixels]"), whole, None, True, 1, 15),
                 tr("linear weights so many by so many pixels; odd. Empty: what does best on rows that are held out. "
                    "Example: 3"))
        self.add(QgsProcessingParameterNumber("CELLS", tr("Cells"), whole, None, True, 1, 128), tr(
            "local has so many cells of gains and offsets along the longer side. Empty: 8. Example: 16"))
        self.add(QgsProcessingParameterNumber("LATITUDE_ORDER", tr("Order in latitude"), whole, None, True, 1, 8), tr(
            "Adds a polynomial of this order in the sine of latitude to each band, for planets. Empty: none. "
            "Example: 4"))
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", tr("Folder of the model")), tr(
            "A new folder, whose name is the model's. Example: models/harmonised"))

    def checkParameterValues(self, parameters, context):
        kind = self.parameterAsEnumString(parameters, "KIND", context)
        if given(parameters, "CELLS") and kind != "local":
            return False, tr("Only local has cells: leave them empty, or choose local.")
        if given(parameters, "LATITUDE_ORDER") and kind == "local":
            return False, tr("local follows the map as it is: leave Order in latitude empty, or choose another kind.")
        if given(parameters, "NEIGHBOURHOOD"):
            if kind != "linear":
                return False, tr("Only linear looks at a neighbourhood: leave it empty, or choose linear.")
            if self.parameterAsInt(parameters, "NEIGHBOURHOOD", context) % 2 == 0:
                return False, tr("A neighbourhood has a pixel in its middle: choose an odd number.")
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters, context, feedback):
        self.rasters = self.sides(parameters, context)
        return True

    def processAlgorithm(self, parameters, context, feedback):
        kind = self.parameterAsEnumString(parameters, "KIND", context)
        folder = os.path.abspath(self.parameterAsString(parameters, "OUTPUT", context))
        arguments = ["fit", kind, "--output", folder, *FOLLOWED]
        arguments += ["--set", "data.match_grid=true"] if kind == "local" else []
        arguments += self.paths_of_sides(context, feedback)
        for name in given(parameters, "NEIGHBOURHOOD", "CELLS", "LATITUDE_ORDER"):
            arguments += ["--" + name.lower().replace("_", "-"), self.parameterAsString(parameters, name, context)]
        self.work(arguments, feedback)
        if not os.path.isfile(os.path.join(folder, "manifest.json")):
            raise QgsProcessingException(tr("The worker ended without a model in {}: run Check installation.").format(
                folder))
        models.remember(folder)
        return {"OUTPUT": folder}
