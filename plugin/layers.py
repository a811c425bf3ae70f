"""From a layer of QGIS to a file that another process can read, and back to a path it can write."""

import math
import os

from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingException,
    QgsProcessingUtils,
    QgsProviderRegistry,
    QgsRasterBlockFeedback,
    QgsRasterFileWriter,
    QgsRasterPipe,
    QgsRectangle,
)

from .text import tr

_MOST_PX = 1 << 30
GEOTIFF = (".tif", ".tiff")
"""What results are called."""


class Source:
    """What a worker needs to know of a layer; made on the main thread, used on any."""

    def __init__(self, layer):
        provider = layer.dataProvider()
        self.name, self.crs, self.uri = layer.name(), QgsCoordinateReferenceSystem(layer.crs()), layer.source()
        self.extent = layer.extent()
        self.renderer = layer.renderer().clone() if layer.renderer() else None
        # What lives in the memory of QGIS cannot be read by another process.
        self.is_file = provider.name() == "gdal" and not self.uri.startswith(("/vsimem/", "MEM:"))
        if self.is_file and "|" in self.uri:
            self.uri = QgsProviderRegistry.instance().decodeUri("gdal", self.uri).get("path") or self.uri
        self.assigned = self.is_file and self.crs.isValid() and self.crs != provider.crs()
        self._provider = None if self.is_file else provider.clone()

    def path(self, extent, pixel_size, context, feedback):
        """A file or GDAL path with the layer's pixels.

        Args:
            extent: QgsRectangle in the layer's CRS, or a null one for all of it.
            pixel_size: in the layer's units, for layers that have none of their own, or None.

        Raises:
            QgsProcessingException: one sentence for a layer that is gone or has no pixels of its own.
        """
        if not self.is_file:
            return self._rendered(extent, pixel_size, context, feedback)
        path = os.path.abspath(self.uri) if os.path.exists(self.uri) else self.uri
        if self.assigned:
            # QGIS was told another CRS than the file has: the worker shall see what the user sees.
            wrapped = QgsProcessingUtils.generateTempFilename("input.vrt")
            data = opened(path)
            if data is None or gdal.Translate(wrapped, data, format="VRT", outputSRS=as_text(self.crs)) is None:
                raise QgsProcessingException(tr("{} cannot be read: check that its file is still there.").format(path))
            return wrapped
        return path

    def _rendered(self, extent, pixel_size, context, feedback):
        """A temporary GeoTIFF of a layer that is not a file: a web service, a database, a virtual raster."""
        provider = self._provider
        if not provider.xSize() and (extent.isNull() or not pixel_size):
            raise QgsProcessingException(tr(
                "Layer {} ({}) has no pixels of its own: give an extent and the pixel size for web layers, at which it "
                "is rendered.").format(self.name, provider.name()))
        extent = provider.extent() if extent.isNull() else extent
        across = pixel_size or provider.extent().width() / provider.xSize()
        down = pixel_size or provider.extent().height() / provider.ySize()
        width, height = max(1, math.ceil(extent.width() / across)), max(1, math.ceil(extent.height() / down))
        if width * height > _MOST_PX:
            raise QgsProcessingException(tr("Layer {} would be rendered as {} x {} pixels, which is more than {}: "
                                            "choose a smaller extent or a larger pixel size for web layers.").format(
                                                self.name, height, width, _MOST_PX))
        feedback.pushInfo(tr("Layer {} is not a file: {} x {} pixels of {:.6g} are written to a temporary one.").format(
            self.name, height, width, across))
        path = QgsProcessingUtils.generateTempFilename("input.tif")
        pipe, writer, waiting = QgsRasterPipe(), QgsRasterFileWriter(path), QgsRasterBlockFeedback()
        pipe.set(provider)
        self._provider = None  # the pipe owns it now
        feedback.canceled.connect(waiting.cancel)
        # Whole pixels of just the size that was asked for, from the upper left corner.
        extent = QgsRectangle(extent.xMinimum(), extent.yMaximum() - height * down,
                              extent.xMinimum() + width * across, extent.yMaximum())
        error = writer.writeRaster(pipe, width, height, extent, self.crs, context.transformContext(), waiting)
        if feedback.isCanceled():
            raise QgsProcessingException(tr("Cancelled; nothing was left under the output's name."))
        if error != QgsRasterFileWriter.WriterError.NoError:
            raise QgsProcessingException(tr("Layer {} cannot be rendered to a file (error {}): save it as a GeoTIFF "
                                            "first.").format(self.name, int(error)))
        if _is_clear(path):
            raise QgsProcessingException(tr("Layer {} gave nothing but clear pixels here: check that its server "
                                            "answers, and that the extent lies within the layer.").format(self.name))
        return path


def names_of_bands(layer):
    """The names of a raster file's bands but for alpha, "" where they have none; None for what is not a file."""
    data = opened(layer.source()) if layer.dataProvider().name() == "gdal" else None
    if data is None:
        return None
    bands = [data.GetRasterBand(k + 1) for k in range(data.RasterCount)]
    return [band.GetDescription() for band in bands if band.GetColorInterpretation() != gdal.GCI_AlphaBand]


def _is_clear(path):
    """Whether no pixel of a rendered raster shows anything: so are tiles that did not come."""
    data = opened(path)
    alpha = [band for band in (data.GetRasterBand(k + 1) for k in range(data.RasterCount))
             if band.GetColorInterpretation() == gdal.GCI_AlphaBand]
    return bool(alpha) and alpha[0].ComputeRasterMinMax(False)[1] == 0


def opened(path):
    """A GDAL dataset or None, whether or not somebody has turned GDAL's exceptions on."""
    try:
        return gdal.Open(path)
    except RuntimeError:
        return None


def shown(context):
    """Source -> name of the layers that the project shows; for the main thread."""
    project = context.project()
    return {layer.source(): layer.name() for layer in (project.mapLayers().values() if project else ())}


def file_to_write(path, layers_shown):
    """An absolute path of a file that may be written.

    Raises:
        QgsProcessingException: where the project shows that file.
    """
    path = os.path.abspath(path)
    for source, name in layers_shown.items() if os.path.exists(path) else ():
        if os.path.exists(source) and os.path.samefile(source, path):
            raise QgsProcessingException(tr("{} is open in QGIS as layer {}: remove the layer, or choose another "
                                            "file.").format(path, name))
    return path


def geotiff_to_write(path, layers_shown):
    """The same for a raster, which is a GeoTIFF whatever its name says."""
    stem, suffix = os.path.splitext(path)
    if suffix.lower() not in GEOTIFF:
        raise QgsProcessingException(tr("{} would not be what its name says: results are GeoTIFFs. Name it {}.").format(
            os.path.basename(path), os.path.basename(stem) + GEOTIFF[0]))
    return file_to_write(path, layers_shown)


class Shortened(str):
    """A word of a command that the log shows in short."""

    shown = ""


def as_text(crs):
    """A CRS as the command line takes it: all of it, for a code alone may mean nothing to another PROJ."""
    text = Shortened(crs.toWkt(QgsCoordinateReferenceSystem.WktVariant.WKT2_2019))
    text.shown = crs.authid() or crs.description() or tr("custom CRS")
    return text


def corners(extent):
    """A rectangle as the command line takes it."""
    edges = extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()
    return ",".join(repr(float(edge)) for edge in edges)
