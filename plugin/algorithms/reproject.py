"""Reproject raster: `geoi2i reproject`."""

import re

from qgis.core import (
    QgsCoordinateTransform,
    QgsProcessingException,
    QgsProcessingParameterBand,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from .. import layers, styling
from ..text import tr
from .base import FOLLOWED, Algorithm, given

_REAL = QgsProcessingParameterNumber.Type.Double
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")


class ReprojectRaster(Algorithm):
    key = "reproject"
    title = "Reproject raster"
    section = "Rasters"
    words = ("warp", "gdalwarp", "projection", "resample", "planet", "coregister", "GPU")
    options = {"--crs": "TARGET_CRS", "--bounds": "EXTENT", "--bounds-crs": "EXTENT", "--no-antialias": "ANTIALIAS",
               "--dtype": "DATA_TYPE", "--creation-option": "CREATION_OPTIONS"}
    purpose = ("Brings a raster onto another grid, with positions exact to a stated error.\n\n"
               "Kernels never mix in nodata, and widen where pixels become coarser. On other planets, planetographic "
               "and planetocentric latitudes and east and west longitudes are told apart.\n\n"
               "Example: INPUT a Sentinel-2 scene in UTM zone 31; TARGET_CRS EPSG:32632; RESAMPLING cubic.")

    def initAlgorithm(self, configuration=None):
        self.add(QgsProcessingParameterRasterLayer("INPUT", tr("Input raster")), tr("Raster to reproject. Example: "
            "scene.tif"))
        self.add(QgsProcessingParameterCrs("TARGET_CRS", tr("Target CRS"), optional=True), tr(
            "CRS of the result; this or a raster whose grid is taken. Example: EPSG:32632"))
        self.add(QgsProcessingParameterRasterLayer("LIKE", tr("Grid of this raster"), optional=True), tr(
            "Take CRS, pixels and extent from this raster. Example: reference.tif"))
        self.add(QgsProcessingParameterNumber("RESOLUTION", tr("Pixel size [target units]"), _REAL, None, True, 0), tr(
            "Side of a pixel in units of the target CRS. Empty: as many pixels as the input. Example: 10"))
        self.add(QgsProcessingParameterExtent("EXTENT", tr("Extent to cover"), optional=True), tr(
            "Empty: all of the input. Example: 300000,400000,5300000,5400000 [EPSG:32632]"))
        self.add(QgsProcessingParameterEnum("RESAMPLING", tr("Resampling"), options=[
            "nearest", "bilinear", "cubic", "lanczos", "average"], optional=True, usesStaticStrings=True), tr(
            "nearest keeps values as they are (classes); bilinear and cubic for pictures; average for much coarser "
            "pixels. Empty: bilinear, and nearest for rasters with a colour table or class names. Example: cubic"))
        self.add(QgsProcessingParameterNumber("TOLERANCE", tr("Largest error of a position [pixels]"), _REAL, 0.05,
                                              False, 1e-6), tr("In pixels of the input. Example: 0.01"), True)
        self.add(QgsProcessingParameterBoolean("ANTIALIAS", tr("Widen kernels (antialias)"), True), tr(
            "Where pixels become coarser; without it fine detail is skipped instead of averaged. Example: yes"), True)
        self.add(QgsProcessingParameterBand("BANDS", tr("Bands"), parentLayerParameterName="INPUT", optional=True,
                                            allowMultiple=True), tr("Bands to keep. Empty: all. Example: 1,2,3"), True)
        self.add_cutline(tr("Pixels of the result whose centre is outside have no data. Of any CRS. Example: "
                            "fields.geojson"))
        self.add(QgsProcessingParameterNumber("PIXEL_SIZE", tr("Pixel size for web layers"), _REAL, None,
                                              True, 0), tr(
            "At which a web service is rendered, in units of the layer's CRS. Example: 10"), True)
        self.add(QgsProcessingParameterString("NODATA", tr("Nodata value for output bands"), optional=True), tr(
            "What pixels without data get: a number that the output's type holds, nan, or none to write a mask. A "
            "valid pixel of that value moves one step. Empty: the input's. Example: -9999"), True)
        self.add(QgsProcessingParameterEnum("DATA_TYPE", tr("Output data type"), options=list(TYPES), optional=True,
                                            usesStaticStrings=True), tr(
            "Numbers are rounded and clipped to it. Empty: the input's. Example: float32"), True)
        self.add(QgsProcessingParameterString("CREATION_OPTIONS", tr("Additional creation options"), optional=True), tr(
            "Of GDAL's GeoTIFF, NAME=VALUE, separated by | or blanks. Empty: COMPRESS=ZSTD. Example: "
            "COMPRESS=DEFLATE|PREDICTOR=2|ZLEVEL=9"), True)
        self.add_device()
        self.add(QgsProcessingParameterRasterDestination("OUTPUT", tr("Reprojected raster")), tr(
            "The result, a GeoTIFF. Example: reprojected.tif"))

    def checkParameterValues(self, parameters, context):
        if len(given(parameters, "TARGET_CRS", "LIKE")) != 1:
            return False, tr("Name the target with {} or with {}, one of them.").format(
                self.label("TARGET_CRS"), self.label("LIKE"))
        if given(parameters, "LIKE") and given(parameters, "RESOLUTION", "EXTENT"):
            return False, tr("{} gives the pixels already: leave {} and {} empty.").format(
                *map(self.label, ("LIKE", "RESOLUTION", "EXTENT")))
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(self, parameters, context, feedback):
        self.sources = {}
        for name in given(parameters, "INPUT", "LIKE"):
            layer = self.parameterAsRasterLayer(parameters, name, context)
            if layer is None or not layer.isValid():
                raise QgsProcessingException(self.invalidRasterError(parameters, name))
            self.sources[name] = layers.Source(layer)
            if name == "LIKE" and not self.sources[name].is_file:
                raise QgsProcessingException(tr("Layer {} has no pixels to take the grid from: choose a raster file "
                                                "for {}.").format(layer.name(), self.label("LIKE")))
        self.shown = layers.shown(context)
        self.within = self.cutline(parameters, context, feedback)
        return True

    def processAlgorithm(self, parameters, context, feedback):
        source = self.sources["INPUT"]
        output = self.rasters_to_write(parameters, context, self.shown, "OUTPUT")["OUTPUT"]
        size = self.parameterAsDouble(parameters, "PIXEL_SIZE", context) if given(parameters, "PIXEL_SIZE") else None
        whole = self.parameterAsExtent(parameters, "EXTENT", context, source.crs)
        like = self.sources.get("LIKE")
        if like is not None and not source.is_file:
            there = QgsCoordinateTransform(like.crs, source.crs, context.transformContext())
            whole = there.transformBoundingBox(like.extent)
        arguments = ["reproject", "--input", source.path(whole, size, context, feedback), "--output", output,
                     "--overwrite", "--no-resume", *FOLLOWED, *self.within]
        if like is not None:
            arguments += ["--like", like.path(None, None, context, feedback)]
        else:
            crs = self.parameterAsCrs(parameters, "TARGET_CRS", context)
            arguments += ["--crs", layers.as_text(crs)]
            extent = self.parameterAsExtent(parameters, "EXTENT", context, crs)
            if not extent.isNull():
                arguments += ["--bounds", layers.corners(extent)]
        for name in given(parameters, "RESOLUTION", "RESAMPLING", "TOLERANCE", "NODATA", "DEVICE"):
            arguments += ["--" + name.lower(), self.parameterAsString(parameters, name, context)]
        if given(parameters, "DATA_TYPE"):
            arguments += ["--dtype", self.parameterAsEnumString(parameters, "DATA_TYPE", context)]
        for option in re.split(r"[|\s]+", self.parameterAsString(parameters, "CREATION_OPTIONS", context)):
            arguments += ["--creation-option", option] if option else []
        if not self.parameterAsBool(parameters, "ANTIALIAS", context):
            arguments.append("--no-antialias")
        if given(parameters, "BANDS"):
            arguments += ["--bands", ",".join(map(str, self.parameterAsInts(parameters, "BANDS", context)))]
        self.work(arguments, feedback, [output])
        self.load_as("OUTPUT", output, styling.Translation(tr("{} reprojected").format(source.name), source,
                                                           not given(parameters, "BANDS")), context)
        return {"OUTPUT": output}
