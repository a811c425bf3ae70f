"""Train model: `geoi2i train`."""

import glob
import os
import shlex

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

from .. import models, recipes, training_page
from ..files import put
from ..text import tr
from .base import FOLLOWED, Algorithm, given


class TrainModel(Algorithm):
    key = "train"
    title = "Train model"
    section = "Models"
    words = ("deep learning", "image-to-image translation", "domain adaptation", "style transfer", "super-resolution",
             "unpaired", "paired", "sp-i2i", "cyclegan", "pix2pix", "diffusion")
    options = {"--set": "SETTINGS"}
    purpose = ("Trains a model that translates the source rasters into the look of the target rasters, and exports "
               "it.\n\n"
               "Source and target need not show the same place or have the same pixels, but for the methods that learn "
               "from pairs. The run's folder holds the log, previews, the checkpoint and the model, which Translate "
               "raster offers from then on; a page of curves and previews is shown in the results viewer.\n\n"
               "Example: SOURCE all JunoCam mosaics; TARGET the Hubble OPAL map; METHOD sp_i2i; STEPS 2000.")

    def initAlgorithm(self, configuration=None):
        self.add_sides(tr("Empty: those that the recipe names. "))
        self.add_listed(QgsProcessingParameterString("METHOD", tr("Method"), "sp_i2i"), "MethodWrapper", tr(
            "A recipe, by its name or its file: methods for rasters of any places, those for rasters that show the "
            "same ground pixel by pixel, in the same order, and recipes of your own, in {}. Example: sp_i2i").format(
                recipes.user_recipes()))
        self.add(QgsProcessingParameterFile("RECIPE", tr("Recipe"), extension="toml", optional=True), tr(
            "A recipe file, which takes the place of the method. Example: jupiter-rgb.toml"), True)
        whole = QgsProcessingParameterNumber.Type.Integer
        self.add(QgsProcessingParameterNumber("STEPS", tr("Steps"), whole, None, True, 1), tr(
            "Number of training steps. Empty: the recipe's. Example: 2000"))
        self.add(QgsProcessingParameterString("SETTINGS", tr("Further settings"), optional=True), tr(
            "Keys of the recipe to override, KEY=VALUE, separated by blanks. Example: data.batch=2 seed=7"), True)
        self.add(QgsProcessingParameterBoolean("RESUME", tr("Resume the run"), False), tr(
            "Resume from the last checkpoint in the folder of the run. Example: yes, after a cancel"), True)
        self.add_device()
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", tr("Folder of the run")), tr(
            "A new folder. Example: runs/first"))
        self.add(QgsProcessingParameterFileDestination("REPORT", tr("Report"), "HTML (*.html)", None, True), tr(
            "A page with curves, previews and the model, shown in the results viewer. Example: training.html"))

    def checkParameterValues(self, parameters, context):
        try:
            _words(self.parameterAsString(parameters, "SETTINGS", context))
        except ValueError as error:
            return False, tr("The settings cannot be read ({}): write KEY=VALUE, and quotes around "
                             "blanks.").format(error)
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters, context, feedback):
        self.rasters = self.sides(parameters, context)
        return True

    def processAlgorithm(self, parameters, context, feedback):
        folder = os.path.abspath(self.parameterAsString(parameters, "OUTPUT", context))
        recipe = (self.parameterAsString(parameters, "RECIPE", context)
                  or self.parameterAsString(parameters, "METHOD", context))
        arguments = ["train", os.path.abspath(recipe) if recipes.is_file(recipe) else recipe, "--output", folder,
                     *FOLLOWED]
        arguments += self.paths_of_sides(context, feedback)
        for name in given(parameters, "STEPS", "DEVICE"):
            arguments += ["--" + name.lower(), self.parameterAsString(parameters, name, context)]
        for setting in _words(self.parameterAsString(parameters, "SETTINGS", context)):
            arguments += ["--set", setting]
        if self.parameterAsBool(parameters, "RESUME", context):
            arguments.append("--resume")
        self.work(arguments, feedback, if_cancelled=tr("Cancelled; {} keeps the last checkpoint, if there was one: "
                                                       "tick Resume the run next time.").format(folder))
        made = glob.glob(os.path.join(glob.escape(folder), "*", "manifest.json"))
        if not made:
            raise QgsProcessingException(tr("The worker ended without a model in {}: run Check installation.").format(
                folder))
        model = os.path.dirname(max(made, key=os.path.getmtime))
        models.remember(model)
        return {"OUTPUT": folder, **self._report(parameters, context, folder, model)}

    def _report(self, parameters, context, folder, model):
        path = self.parameterAsFileOutput(parameters, "REPORT", context) if given(parameters, "REPORT") else ""
        if not path:
            return {}
        try:
            put(training_page.page(folder, model).encode(), path)
        except OSError as error:
            raise QgsProcessingException(tr("{} cannot be written ({}), but the model is in {}: choose another file "
                                            "for the report.").format(path, error.strerror, model)) from error
        return {"REPORT": path}


def _words(text):
    """Words between blanks; quotes hold them together, and a backslash is one."""
    words = shlex.shlex(text, posix=True, punctuation_chars=False)
    words.whitespace_split, words.escape, words.commenters = True, "", ""
    return list(words)
