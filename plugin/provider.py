"""The Processing provider: which algorithms there are, and the one setting."""

import os

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from . import environment, layers
from .algorithms.check import CheckInstallation
from .algorithms.describe import DescribeModel
from .algorithms.evaluate import EvaluateTranslation
from .algorithms.fit import FitModel
from .algorithms.reproject import ReprojectRaster
from .algorithms.train import TrainModel
from .algorithms.translate import TranslateRaster
from .text import tr

ALGORITHMS = (TranslateRaster, EvaluateTranslation, ReprojectRaster, TrainModel, FitModel, DescribeModel,
              CheckInstallation)
ICON = os.path.join(environment.ROOT, "resources", "icons", "geoi2i.svg")


class Provider(QgsProcessingProvider):
    def id(self):
        return "geoi2i"

    def name(self):
        return "GeoI2I"

    def longName(self):
        return tr("GeoI2I: translate rasters from one sensor to another")

    def icon(self):
        return QIcon(ICON)

    def svgIconPath(self):
        return ICON

    def versionInfo(self):
        from .. import __version__

        return __version__

    def load(self):
        ProcessingConfig.settingIcons["GeoI2I"] = self.icon()
        ProcessingConfig.addSetting(Setting(
            "GeoI2I", environment.SETTING, tr("Python interpreter with torch (empty: the recorded or managed one)"), "",
            valuetype=Setting.FILE))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self):
        ProcessingConfig.removeSetting(environment.SETTING)

    def loadAlgorithms(self):
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())

    def supportedOutputRasterLayerExtensions(self):
        return [suffix[1:] for suffix in layers.GEOTIFF]

    def defaultRasterFileExtension(self, hasRasterOutputs=True):
        return "tif"

    def warningMessage(self):
        try:
            environment.interpreter()
        except environment.NoInterpreter as error:
            return str(error)
        return ""
