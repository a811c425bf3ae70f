"""What QGIS loads: registers the Processing provider and takes it away again."""

from qgis.core import QgsApplication

from .provider import Provider


class Plugin:
    """Made by `classFactory`; `initProcessing` alone is called by qgis_process."""

    def __init__(self, iface):
        self.iface = iface
        self.provider = None

    def initProcessing(self):
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):
        self.initProcessing()

    def unload(self):
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
