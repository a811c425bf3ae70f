"""Train model: `geoi2i train`."""

import glob
import os
import shlex

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

from .. import layers, worker
from ..text import tr
from .base import FOLLOWED, Algorithm, given


class TrainModel(Algorithm):
    key = "train"
    title = "Train model"
    section = "Models"
    words = ("deep learning", "unpaired", "sp-i2i")
    purpose = ("Trains a model that translates the source rasters into the look of the target rasters, and exports "
        "it.\n\n"
               "Source and target need not show the same place or have the same pixels, but for the methods that learn "
               "from pairs. The run's folder holds the log, previews, the checkpoint and the model; give that model's "
               "folder to Translate raster.\n\n"
               "Example: SOURCE all JunoCam mosaics; TARGET the Hubble OPAL map; METHOD sp_i2i; STEPS 2000.")

    def initAlgorithm(self, configuration=None):
        kind = QgsProcessing.SourceType.TypeRaster
        self.add(QgsProcessingParameterMultipleLayers("SOURCE", tr("Source rasters"), kind, optional=True), tr(
            "Rasters of the sensor to translate from. Empty: those that the recipe names. Example: junocam/*.tif"))
        self.add(QgsProcessingParameterMultipleLayers("TARGET", tr("Target rasters"), kind, optional=True), tr(
            "Rasters of the sensor to translate to. Empty: those that the recipe names. Example: opal.tif"))
        self.add(QgsProcessingParameterString("METHOD", tr("Method"), "sp_i2i"), tr(
            "sp_i2i, unsb, cut, fastcut, cyclegan or stegogan; of rasters that show the same ground pixel by pixel, in "
            "the same order: pix2pix, regression, sr3, resshift, flow, unidb, supresdiffgan, bbdm, cbbdm or i2sb. A "
            "recipe below takes its place. Example: sp_i2i"))
        self.add(QgsProcessingParameterFile("RECIPE", tr("Recipe"), extension="toml", optional=True), tr(
            "A recipe that says method, data, losses and budget. Example: jupiter-rgb.toml"))
        whole = QgsProcessingParameterNumber.Type.Integer
        self.add(QgsProcessingParameterNumber("STEPS", tr("Steps"), whole, None, True, 1), tr(
            "Number of training steps. Empty: the recipe's. Example: 2000"))
        self.add(QgsProcessingParameterString("SETTINGS", tr("Further settings"), optional=True), tr(
            "Keys of the recipe to override, KEY=VALUE, separated by blanks. Example: data.batch=2 seed=7"), True)
        self.add(QgsProcessingParameterBoolean("RESUME", tr("Go on with a run"), False), tr(
            "Go on from the last checkpoint in the folder of the run. Example: yes, after a cancel"), True)
        self.add_device()
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", tr("Folder of the run")), tr(
            "A new folder. Example: runs/first"))

    def checkParameterValues(self, parameters, context):
        try:
            _words(self.parameterAsString(parameters, "SETTINGS", context))
        except ValueError as error:
            return False, tr("The settings cannot be read ({}): write KEY=VALUE, and quotes around "
                             "blanks.").format(error)
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters, context, feedback):
        self.rasters = {}
        for name in given(parameters, "SOURCE", "TARGET"):
            found = self.parameterAsLayerList(parameters, name, context)
            gone = [layer.name() for layer in found if not layer.isValid() or layer.dataProvider().name() != "gdal"]
            if gone or not found:
                raise QgsProcessingException(tr("{} holds layers that are not raster files: {}. Save them as GeoTIFF "
                                                "first.").format(name, ", ".join(gone) or "-"))
            self.rasters[name] = [layers.Source(layer) for layer in found]
        return True

    def processAlgorithm(self, parameters, context, feedback):
        folder = os.path.abspath(self.parameterAsString(parameters, "OUTPUT", context))
        recipe = self.parameterAsString(parameters, "RECIPE", context)
        what = os.path.abspath(recipe) if recipe else self.parameterAsString(parameters, "METHOD", context)
        arguments = ["train", what, "--output", folder, *FOLLOWED]
        for name, sources in self.rasters.items():
            for source in sources:
                arguments += ["--" + name.lower(), source.path(None, None, context, feedback)]
        for name in given(parameters, "STEPS", "DEVICE"):
            arguments += ["--" + name.lower(), self.parameterAsString(parameters, name, context)]
        for setting in _words(self.parameterAsString(parameters, "SETTINGS", context)):
            arguments += ["--set", setting]
        if self.parameterAsBool(parameters, "RESUME", context):
            arguments.append("--resume")
        worker.run(arguments, feedback, if_cancelled=tr("Cancelled; {} keeps the last checkpoint, if there was one: "
                                                        "run again with RESUME.").format(folder))
        if not glob.glob(os.path.join(glob.escape(folder), "*", "manifest.json")):
            raise QgsProcessingException(tr("The worker ended without a model in {}: run Check installation.").format(
                folder))
        return {"OUTPUT": folder}


def _words(text):
    """Words between blanks; quotes hold them together, and a backslash is one."""
    words = shlex.shlex(text, posix=True, punctuation_chars=False)
    words.whitespace_split, words.escape, words.commenters = True, "", ""
    return list(words)
