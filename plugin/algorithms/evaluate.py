"""Evaluate translation: `geoi2i evaluate`."""

import json
import math
import os
import shutil

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBand,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRange,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingUtils,
)

from .. import layers
from ..files import put
from ..text import tr
from .base import FOLLOWED, Algorithm, given

_ONE = ("PREDICTION", "REFERENCE", "SOURCE", "PAN", "UNCERTAINTY")
_WRITTEN = {"REPORT": "index.html", "JSON": "scores.json", "CSV": "scores.csv"}
_NUMBERS = ("PSNR", "SSIM", "RMSE")


class EvaluateTranslation(Algorithm):
    key = "evaluate"
    title = "Evaluate translation"
    section = "Rasters"
    words = ("quality", "metric", "psnr", "ssim", "accuracy", "compare", "image-to-image translation")
    options = {"--target": "TARGETS", "--metric": "METRICS"}
    purpose = ("Measures a translated raster: against a reference, its source, other rasters of the sensor that it "
               "imitates, or PAN and the multispectral image.\n\n"
               "Give what there is; each is a comparison of its own. Pixels without data do not count. The page is "
               "shown in the results viewer and needs no network; the scores also stand in the log.\n\n"
               "Example: PREDICTION translated.tif; REFERENCE truth.tif; SOURCE scene.tif.")

    def initAlgorithm(self, configuration=None):
        self.add(QgsProcessingParameterRasterLayer("PREDICTION", tr("Translated raster")), tr(
            "Raster to judge. Example: translated.tif"))
        self.add(QgsProcessingParameterRasterLayer("REFERENCE", tr("Reference"), optional=True), tr(
            "What it should be, pixel by pixel. Example: truth.tif"))
        self.add(QgsProcessingParameterRasterLayer("SOURCE", tr("Source"), optional=True), tr(
            "What it was made of: says whether structure was kept. With a panchromatic image, the multispectral one. "
            "Example: scene.tif"))
        self.add(QgsProcessingParameterMultipleLayers(
            "TARGETS", tr("Rasters of its sensor"), QgsProcessing.SourceType.TypeRaster, optional=True), tr(
            "Of any place: values and frequencies are compared, not pixels. Example: opal.tif"))
        self.add(QgsProcessingParameterEnum(
            "RESAMPLE_TO", tr("Whose pixels to take"), options=[
            "refuse", "reference", "prediction"], defaultValue="refuse", usesStaticStrings=True), tr(
            "Where they do not coincide: refuse compares only rasters with the same pixels, else the other one is "
            "resampled, which changes scores. Example: reference"))
        self.add(QgsProcessingParameterEnum("RESAMPLING", tr("How the other one is resampled"), options=[
            "nearest", "bilinear", "cubic", "lanczos", "average"], defaultValue="bilinear", usesStaticStrings=True), tr(
            "Where pixels do not coincide. Example: cubic"), True)
        self.add(QgsProcessingParameterBand("BANDS", tr("Bands of the translated raster"), optional=True,
                                            parentLayerParameterName="PREDICTION", allowMultiple=True), tr(
            "Counted from 1. Empty: all. Example: 1,2,3"), True)
        self.add(QgsProcessingParameterBand("REFERENCE_BANDS", tr("Bands of the others"), optional=True,
                                            parentLayerParameterName="REFERENCE", allowMultiple=True), tr(
            "Of reference, source and other rasters alike. Empty: those of the same names, or in order. Example: "
            "3,2,1"), True)
        self.add(QgsProcessingParameterBoolean("SEAMS", tr("Look for window borders"), False), tr(
            "Says whether borders of windows stand out in the translated raster. Example: yes, where it was made in "
            "windows"))
        self.add(QgsProcessingParameterString("METRICS", tr("Metrics"), optional=True), tr(
            "Names separated by commas, as geoi2i evaluate --list gives them. Empty: the usual ones. Example: "
            "psnr,ssim,lpips"), True)
        self.add(QgsProcessingParameterRange("RANGE", tr("Black and full values"),
                                             QgsProcessingParameterNumber.Type.Double, None, True), tr(
            "In the data's units; for PSNR, SSIM and histograms. Empty: 0 to 255 for 8 bits, else percentiles of the "
            "reference. Example: 0,10000"), True)
        self.add_cutline(tr("Pixels whose centre is outside do not count. Of any CRS. Example: fields.geojson"))
        self.add(QgsProcessingParameterRasterLayer("PAN", tr("Panchromatic image"), optional=True), tr(
            "Judges a pansharpened raster without reference; the source is the multispectral image then. Example: "
            "pan.tif"), True)
        self.add(QgsProcessingParameterEnum("SENSOR", tr("Sensor whose blur HQNR takes"), options=[
            "any", "QB", "IKONOS", "GeoEye1", "WV2", "WV3", "WV4"], defaultValue="any", usesStaticStrings=True), tr(
            "With a panchromatic image. any takes a gain of 0.3 in all bands. Example: WV3"), True)
        self.add(QgsProcessingParameterRasterLayer(
            "UNCERTAINTY", tr("Standard deviation"), optional=True), tr(
            "Standard deviations as Translate raster writes them: says whether they suit the errors against the "
            "reference. Example: std.tif"), True)
        self.add(QgsProcessingParameterFile("WEIGHTS", tr("Folder of network weights"),
                                            QgsProcessingParameterFile.Behavior.Folder, optional=True), tr(
            "For LPIPS, DISTS, FID and NIQE; nothing is downloaded. Example: weights"), True)
        self.add(QgsProcessingParameterFileDestination("REPORT", tr("Report"), "HTML (*.html)", None, True), tr(
            "A page with scores, pictures and curves, shown in the results viewer. Example: report.html"))
        self.add(QgsProcessingParameterFileDestination("JSON", tr("All that was found, as JSON"), "JSON (*.json)", None,
                                                       True, False), tr("For programs. Example: scores.json"))
        self.add(QgsProcessingParameterFileDestination("CSV", tr("Scores as a table"), "CSV (*.csv)", None, True,
                                                       False), tr("A score a line. Example: scores.csv"))
        for name in _NUMBERS:
            self.addOutput(QgsProcessingOutputNumber(name, tr("{} against the reference").format(name)))

    def checkParameterValues(self, parameters, context):
        if not given(parameters, "REFERENCE", "SOURCE", "TARGETS", "PAN", "METRICS") and not self.parameterAsBool(
                parameters, "SEAMS", context):
            return False, tr("There is nothing to compare with: give {}, {} or {}, or tick {}.").format(
                *map(self.label, ("REFERENCE", "SOURCE", "TARGETS", "SEAMS")))
        for name, other in (("PAN", "SOURCE"), ("UNCERTAINTY", "REFERENCE")):
            if given(parameters, name) and not given(parameters, other):
                return False, tr("{} is of use only together with {}: give both.").format(
                    self.label(name), self.label(other))
        limits = self._range(parameters, context)
        if limits and not limits[0] < limits[1]:  # also where one of them is not a number
            return False, tr("{} needs two numbers, first that of black and then that of full: write for example "
                             "0,10000.").format(self.label("RANGE"))
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters, context, feedback):
        self.rasters = {}
        for name in given(parameters, *_ONE, "TARGETS"):
            found = (self.parameterAsLayerList(parameters, name, context) if name == "TARGETS"
                     else [self.parameterAsRasterLayer(parameters, name, context)])
            for layer in found:
                if layer is None or not layer.isValid():
                    raise QgsProcessingException(self.invalidRasterError(parameters, name))
                if not layer.dataProvider().xSize():
                    raise QgsProcessingException(tr("Layer {} has no pixels of its own: save it as a GeoTIFF "
                                                    "first.").format(layer.name()))
            self.rasters[name] = [layers.Source(layer) for layer in found]
        self.shown = layers.shown(context)
        self.within = self.cutline(parameters, context, feedback)
        return True

    def processAlgorithm(self, parameters, context, feedback):
        outputs = {name: layers.file_to_write(path, self.shown) for name, path in (
            (name, self.parameterAsFileOutput(parameters, name, context)) for name in _WRITTEN) if path}
        for path in outputs.values():
            if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path)):
                raise QgsProcessingException(tr("{} cannot be written: choose a file in a folder that exists.").format(
                    path))
        # All is written to a folder of the run's own first, so that a failure leaves nothing under the outputs' names.
        folder = QgsProcessingUtils.generateTempFilename("evaluation")
        os.makedirs(folder)
        made = {name: os.path.join(folder, _WRITTEN[name]) for name in {**outputs, "JSON": ""}}
        arguments = ["evaluate", "--overwrite", *FOLLOWED, *self.within]
        for name, sources in self.rasters.items():
            for source in sources:
                option = "--target" if name == "TARGETS" else "--" + name.lower()
                arguments += [option, source.path(None, None, context, feedback)]
        for name, path in made.items():
            arguments += ["--" + name.lower(), folder if name == "REPORT" else path]
        onto = self.parameterAsEnumString(parameters, "RESAMPLE_TO", context)
        if onto != "refuse":
            arguments += ["--resample-to", onto, "--resampling",
                          self.parameterAsEnumString(parameters, "RESAMPLING", context)]
        for name in given(parameters, "BANDS", "REFERENCE_BANDS"):
            bands = self.parameterAsInts(parameters, name, context)
            arguments += ["--" + name.lower().replace("_", "-"), ",".join(map(str, bands))]
        sensor = self.parameterAsEnumString(parameters, "SENSOR", context)
        if sensor != "any":
            arguments += ["--sensor", sensor]
        for metric in self.parameterAsString(parameters, "METRICS", context).split(","):
            arguments += ["--metric", metric.strip()] if metric.strip() else []
        limits = self._range(parameters, context)
        if limits:
            arguments.append("--range=" + ",".join(map(repr, limits)))
        weights = self.parameterAsString(parameters, "WEIGHTS", context)
        if weights:
            arguments += ["--weights", os.path.abspath(weights)]
        if self.parameterAsBool(parameters, "SEAMS", context):
            arguments.append("--seams")
        self.work(arguments, feedback, list(made.values()))
        numbers = _numbers(made["JSON"])
        _publish([(made[name], path) for name, path in outputs.items()])
        shutil.rmtree(folder, ignore_errors=True)
        return {**outputs, **numbers}

    def _range(self, parameters, context):
        """Two floats, or None where neither is given."""
        limits = self.parameterAsRange(parameters, "RANGE", context) if given(parameters, "RANGE") else []
        return limits if not all(math.isnan(limit) for limit in limits) else None


def _numbers(path):
    """The scores against the reference that models may go on with, by the names of the outputs."""
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    scores = {score["metric"].upper(): score["value"] for comparison in found["comparisons"]
              if comparison["kind"] == "reference" for score in comparison["scores"]}
    return {name: scores[name] for name in _NUMBERS if scores.get(name) is not None}


def _publish(pairs):
    """Puts files under their outputs' names, once all of them are there."""
    output = ""
    try:
        for made, output in pairs:
            with open(made, "rb") as file:
                put(file.read(), output)
    except OSError as error:
        raise QgsProcessingException(tr("{} cannot be written ({}): choose another file.").format(
            output, error.strerror)) from error
