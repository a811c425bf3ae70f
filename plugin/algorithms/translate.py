"""Translate raster: `geoi2i run`."""

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterBand,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterExtent,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from .. import layers, models, styling
from ..text import tr
from .base import FOLLOWED, Algorithm, given

_WHOLE = QgsProcessingParameterNumber.Type.Integer
_REAL = QgsProcessingParameterNumber.Type.Double


class TranslateRaster(Algorithm):
    key = "translate"
    title = "Translate raster to another sensor"
    section = "Rasters"
    words = ("deep learning", "image to image", "image-to-image translation", "domain adaptation", "harmonise",
             "harmonisation", "pansharpen", "pansharpening", "super-resolution", "style transfer", "colour", "sensor")
    options = {"--bounds": "EXTENT", "--bounds-crs": "EXTENT", "--match-model-grid": "MATCH_GRID",
               "--restore-grid": "MATCH_GRID"}
    purpose = ("Translates a georeferenced raster from one sensor to another with a trained model.\n\n"
               "Rasters of any size are worked through in windows without seams. CRS, grid, nodata and "
               "band names are kept; the result is a Cloud Optimized GeoTIFF. The computation runs in a process of "
               "its own and can be cancelled at any time.\n\n"
               "Example: INPUT a JunoCam mosaic of Jupiter with bands red, green, blue; MODEL jupiter-rgb; the "
               "result has the colours of the Hubble OPAL map.")

    def initAlgorithm(self, configuration=None):
        self.add(QgsProcessingParameterRasterLayer("INPUT", tr("Input raster")), tr(
            "Raster to translate. A layer that is not a file, such as a web service, is rendered to one first: give "
            "the part and the pixel size for web layers then. Example: junocam.tif"))
        self.add_listed(QgsProcessingParameterString("MODEL", tr("Model"), optional=True), "ModelWrapper", tr(
            "Name or folder of a model. Empty: the one that suits the input, by bands, body and pixel size; it is "
            "named in the log. identity returns the input. Example: jupiter-rgb"))
        self.add(QgsProcessingParameterBand("BANDS", tr("Input bands"), parentLayerParameterName="INPUT", optional=True,
                                            allowMultiple=True), tr(
            "Bands in the model's order, counted from 1. Empty: found by name, colour or order. Example: 3,2,1"))
        self.add(QgsProcessingParameterExtent("EXTENT", tr("Part to translate"), optional=True), tr(
            "Only this part; its pixels are those that the whole would have there. In map units of the given CRS. "
            "Example: 10,40,20,50 [EPSG:4326]"))
        self.add_cutline(tr("Pixels whose centre is outside have no data in the result; those inside are the ones that "
                            "the whole would have there. Of any CRS. Example: fields.geojson"))
        self.add(QgsProcessingParameterNumber("TILE", tr("Window side [pixels]"), _WHOLE, None, True, 32), tr(
            "Longest side of a window in pixels; smaller needs less memory. The result does not depend on it. Empty: "
            "the model's. At least 32. Example: 256"), True)
        self.add(QgsProcessingParameterNumber("OVERLAP", tr("Overlap of windows [pixels]"), _WHOLE, None, True, 0), tr(
            "How far windows overlap and are blended, in pixels; at most half a window. Empty: the model's. Example: "
            "32"),
            True)
        self.add(QgsProcessingParameterNumber("SAMPLES", tr("Passes"), _WHOLE, 1, False, 1), tr(
            "Passes of a model that draws noise; the result is their mean. Example: 16"), True)
        self.add(QgsProcessingParameterNumber("STEPS", tr("Steps of the sampler"), _WHOLE, None, True, 1), tr(
            "Fewer are faster; a model has certain numbers, which an error lists. Empty: the model's. Example: 15"),
            True)
        self.add(QgsProcessingParameterBoolean("BACK_PROJECT", tr("Hold an enlarged raster to its input"), False), tr(
            "Averages over the input's pixels are then the input's numbers; for models that enlarge a whole number of "
            "times. Example: yes, where the result is measured and not only looked at"), True)
        self.add(QgsProcessingParameterNumber("SEED", tr("Seed"), _WHOLE, 0), tr(
            "Seed of the noise: the same seed gives the same pixels. Example: 7"), True)
        self.add(QgsProcessingParameterBoolean("MATCH_GRID", tr("Match the model's pixel size"), False), tr(
            "Bring the input to the pixel size that the model was trained on, and the result back to the input's "
            "pixels (not with a part or standard deviations). Example: yes, where the model is for 10 m and the input "
            "has 3 m"), True)
        self.add(QgsProcessingParameterNumber("PIXEL_SIZE", tr("Pixel size for web layers"), _REAL, None,
                                              True, 0), tr(
            "At which a web service is rendered, in units of the layer's CRS. Example: 10"), True)
        self.add_device()
        self.add(QgsProcessingParameterRasterDestination("OUTPUT", tr("Translated raster")), tr(
            "The result, a GeoTIFF. Example: translated.tif"))
        self.add(QgsProcessingParameterRasterDestination(
            "UNCERTAINTY", tr("Standard deviation"), None, True, False), tr(
            "Standard deviation over the passes, in the result's units; needs at least two passes. Example: "
            "std.tif"))

        self.add(QgsProcessingParameterRasterDestination(
            "CONFIDENCE", tr("Confidence of the model"), None, True, False), tr(
            "How sure the model says it is, where it does: 1 / variance. Example: confidence.tif"))

    def checkParameterValues(self, parameters, context):
        model = models.find(self.parameterAsString(parameters, "MODEL", context))
        bands = self.parameterAsInts(parameters, "BANDS", context) if given(parameters, "BANDS") else []
        there = None if bands else self._bands_there(parameters, context)
        if model and not models.takes(model, len(bands) if bands else there):
            wanted = models.band_names(model)
            counted = tr("{} are chosen").format(len(bands)) if bands else tr("the input has {}").format(len(there))
            return False, tr("Model {} takes {} bands ({}) and {}: choose {} input bands.").format(
                model["name"], len(wanted), ", ".join(wanted), counted, len(wanted))
        tile = self._whole(parameters, "TILE", context) or (model or {}).get("tile_px")
        overlap = self._whole(parameters, "OVERLAP", context)
        if tile and overlap and 2 * overlap > tile:
            return False, tr("An overlap of {} pixels is more than half of a {}-pixel window: choose at most "
                             "{}.").format(overlap, tile, tile // 2)
        if given(parameters, "UNCERTAINTY") and self.parameterAsInt(parameters, "SAMPLES", context) < 2:
            return False, tr("Standard deviations need several samples: choose 2 or more.")
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters, context, feedback):
        layer = self.parameterAsRasterLayer(parameters, "INPUT", context)
        if layer is None or not layer.isValid():
            raise QgsProcessingException(self.invalidRasterError(parameters, "INPUT"))
        self.source = layers.Source(layer)
        self.shown = layers.shown(context)
        self.within = self.cutline(parameters, context, feedback)
        return True

    def processAlgorithm(self, parameters, context, feedback):
        outputs = self.rasters_to_write(parameters, context, self.shown, "OUTPUT", "UNCERTAINTY", "CONFIDENCE")
        extent = self.parameterAsExtent(parameters, "EXTENT", context, self.source.crs)
        size = self.parameterAsDouble(parameters, "PIXEL_SIZE", context) if given(parameters, "PIXEL_SIZE") else None
        path = self.source.path(extent, size, context, feedback)
        arguments = ["run", "--input", path, "--output", outputs["OUTPUT"], "--overwrite", "--no-resume", *FOLLOWED,
                     *self.within]
        if given(parameters, "MODEL"):
            arguments += ["--model", models.argument(self.parameterAsString(parameters, "MODEL", context))]
        for name in given(parameters, "SEED", "SAMPLES", "STEPS", "TILE", "OVERLAP", "DEVICE"):
            arguments += ["--" + name.lower(), self.parameterAsString(parameters, name, context)]
        if given(parameters, "BANDS"):
            arguments += ["--bands", ",".join(map(str, self.parameterAsInts(parameters, "BANDS", context)))]
        if not extent.isNull() and self.source.is_file:
            arguments += ["--bounds", layers.corners(extent)]
        if self.parameterAsBool(parameters, "MATCH_GRID", context):
            arguments.append("--match-model-grid")
            if len(outputs) > 1 or "--bounds" in arguments:
                feedback.pushWarning(tr("With a part or standard deviations the result stays at the model's pixel "
                                        "size."))
            else:
                arguments.append("--restore-grid")
        if self.parameterAsBool(parameters, "BACK_PROJECT", context):
            arguments.append("--back-project")
        for name in ("UNCERTAINTY", "CONFIDENCE"):
            arguments += ["--" + name.lower(), outputs[name]] if name in outputs else []
        self.work(arguments, feedback, list(outputs.values()))
        title = tr("{} translated").format(self.source.name)
        for name, output in outputs.items():
            kind = tr("{}, standard deviation") if name == "UNCERTAINTY" else tr("{}, confidence")
            self.load_as(name, output, styling.Translation(title, self.source, not given(parameters, "BANDS"))
                         if name == "OUTPUT" else styling.StandardDeviation(kind.format(title)), context)
        return dict(outputs)

    def _bands_there(self, parameters, context):
        """Names of the input's bands; None where only the worker can tell."""
        layer = self.parameterAsRasterLayer(parameters, "INPUT", context)
        return layers.names_of_bands(layer) if layer is not None and layer.isValid() else None

    def _whole(self, parameters, name, context):
        return self.parameterAsInt(parameters, name, context) if given(parameters, name) else None
