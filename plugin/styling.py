"""How a result looks when QGIS shows it: the input's stretch where units agree, a ramp for deviations, provenance."""

import os

from qgis.core import (
    QgsColorRampShader,
    QgsContrastEnhancement,
    QgsProcessingLayerPostProcessorInterface,
    QgsRasterBandStats,
    QgsRasterMinMaxOrigin,
    QgsRasterShader,
    QgsSingleBandPseudoColorRenderer,
    QgsStyle,
)

from .layers import opened
from .text import tr

_kept = []  # QGIS holds no reference of its own


def style(details, looks):
    """Gives an output that will be loaded its looks."""
    _kept.append(looks)
    del _kept[:-50]
    details.setPostProcessor(looks)


class _Looks(QgsProcessingLayerPostProcessorInterface):
    """A title of its own, used where QGIS would show the label of the output."""

    generic = ""

    def __init__(self, title):
        super().__init__()
        self.title = title

    def name(self, layer, title):
        if layer.name() == self.generic:
            layer.setName(title)


class Translation(_Looks):
    """A translated or reprojected raster."""

    def __init__(self, title, source, same_bands=True):
        super().__init__(title)
        self.source, self.same_bands = source, same_bands

    def postProcessLayer(self, layer, context, feedback):
        self.name(layer, self.title)
        renderer = self.source.renderer
        if self.same_bands and renderer is not None and _agree(_units(layer.source()), _units(self.source.uri)):
            ours = renderer.clone()
            ours.setAlphaBand(layer.renderer().alphaBand())  # the result may have a mask where the source has none
            layer.setRenderer(ours)
        else:
            layer.setContrastEnhancement(QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum,
                                         QgsRasterMinMaxOrigin.Limits.CumulativeCut)
        _describe(layer)
        layer.triggerRepaint()


class StandardDeviation(_Looks):
    """A standard deviation: one ramp from nothing to much."""

    def postProcessLayer(self, layer, context, feedback):
        provider = layer.dataProvider()
        units = {unit for _, _, _, unit in _units(layer.source())} - {""}
        self.name(layer, f"{self.title} [{units.pop()}]" if len(units) == 1 else self.title)
        found = provider.bandStatistics(1, QgsRasterBandStats.Stats.Max, layer.extent(), 250_000)
        shader = QgsRasterShader()
        ramp = QgsStyle.defaultStyle().colorRamp("Viridis")
        colours = QgsColorRampShader(0.0, found.maximumValue or 1.0, ramp)
        colours.classifyColorRamp(5, 1, layer.extent(), provider)
        shader.setRasterShaderFunction(colours)
        renderer = QgsSingleBandPseudoColorRenderer(provider, 1, shader)
        renderer.setAlphaBand(layer.renderer().alphaBand())
        renderer.setClassificationMin(0.0)
        renderer.setClassificationMax(found.maximumValue or 1.0)
        layer.setRenderer(renderer)
        _describe(layer)
        layer.triggerRepaint()


def _units(path):
    """Kind of number, scale, offset and unit of every band; nothing of what is not a file."""
    data = opened(path) if os.path.exists(path) else None
    if data is None:
        return []
    bands = (data.GetRasterBand(k + 1) for k in range(data.RasterCount))
    return [(band.DataType, band.GetScale() or 1.0, band.GetOffset() or 0.0, band.GetUnitType() or "")
            for band in bands]


def _agree(ours, theirs):
    """Whether numbers mean the same in both; many files do not say their unit."""
    return bool(ours) and len(ours) == len(theirs) and all(
        a[:3] == b[:3] and (a[3] == b[3] or not (a[3] and b[3])) for a, b in zip(ours, theirs))


def _describe(layer):
    """What the file says of its making, in the layer's metadata."""
    data = opened(layer.source())
    tags = {key: value for key, value in data.GetMetadata().items() if key.startswith("GEOI2I_")
            and not key.startswith("GEOI2I_CRS")} if data else {}
    if not tags:
        return
    metadata = layer.metadata()
    metadata.setAbstract(tr("Made by GeoI2I from another raster."))
    for key, value in sorted(tags.items()):
        metadata.addHistoryItem("{}: {}".format(key[7:].lower().replace("_", " "), value))
    layer.setMetadata(metadata)
