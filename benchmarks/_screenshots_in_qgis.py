"""Inside QGIS: opens the toolbox and the dialog, runs the bundled model, and takes pictures on the way."""

import os
import sys
import time
import traceback

import processing
from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog
from qgis.core import QgsApplication, QgsProcessingContext, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QCoreApplication, Qt
from qgis.PyQt.QtWidgets import QApplication, QDockWidget, QProgressBar, QTreeView
from qgis.utils import iface

SHOTS, ROOT = os.environ["GEOI2I_SHOTS"], os.environ["GEOI2I_ROOT"]


def wait(seconds, until=lambda: False):
    """Lets QGIS live; whether `until` came true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QCoreApplication.processEvents()
        time.sleep(0.02)
        if until():
            return True
    return False


def shoot(name, widget=None, width=None):
    wait(0.5)
    screen = QApplication.primaryScreen()
    iface.messageBar().clearWidgets()  # QGIS knows no way from this planet to the Earth, and says so
    wait(0.1)
    picture = screen.grabWindow(0) if widget is None else widget.grab()
    if width:
        picture = picture.scaledToWidth(width, Qt.TransformationMode.SmoothTransformation)
    picture.save(os.path.join(SHOTS, f"qgis-{name}.png"))


def work():
    window = iface.mainWindow()
    window.showMaximized()
    for dock in window.findChildren(QDockWidget):
        dock.setVisible(dock.objectName() in ("Layers", "ProcessingToolbox"))
    layer = QgsRasterLayer(os.path.join(ROOT, "resources/samples/jupiter-cassini.tif"), "Jupiter, Cassini")
    QgsProject.instance().addMapLayer(layer)
    QgsProject.instance().setCrs(layer.crs())
    iface.mapCanvas().zoomToFullExtent()
    toolbox = window.findChild(QDockWidget, "ProcessingToolbox")
    toolbox.raise_()
    tree = toolbox.findChild(QTreeView)
    wait(3)
    model = tree.model()
    for row in range(model.rowCount()):
        index = model.index(row, 0)
        if "GeoI2I" in str(index.data()):
            tree.expandRecursively(index)
            tree.scrollTo(index, QTreeView.ScrollHint.PositionAtTop)
    shoot("toolbox", toolbox)
    dialog = processing.createAlgorithmDialog("geoi2i:translate", {"INPUT": layer.id()})
    dialog.resize(900, 640)
    dialog.move(300, 150)
    dialog.show()
    wait(8)
    shoot("dialog")
    before = len(QgsProject.instance().mapLayers())
    dialog.runButton().click()
    bar = dialog.findChild(QProgressBar)
    wait(30, lambda: 40 <= bar.value() < 100)
    shoot("running")
    wait(60, lambda: len(QgsProject.instance().mapLayers()) > before)
    wait(1)
    dialog.close()
    result = next(found for found in QgsProject.instance().mapLayers().values() if found.id() != layer.id())
    iface.setActiveLayer(result)
    iface.mapCanvas().refreshAllLayers()
    wait(3)
    shoot("result", width=1000)
    batch(layer)


def batch(layer):
    """Three rows, by clicks; every one of them must come out."""
    dialog = BatchAlgorithmDialog(QgsApplication.processingRegistry().algorithmById("geoi2i:translate").create())
    dialog.resize(1100, 500)
    dialog.move(200, 200)
    dialog.show()
    panel = dialog.mainWidget()
    for _ in range(2):
        panel.btnAdd.click()
    context = QgsProcessingContext()
    outputs = [os.path.join(os.environ["GEOI2I_SCRATCH"], f"row-{row}.tif") for row in range(3)]
    for row, output in enumerate(outputs):
        west = 60 + 20 * row
        for name, value in (("INPUT", layer.id()), ("MODEL", "jupiter-rgb"), ("EXTENT", f"{west},{west + 20},-30,20")):
            panel.wrappers[row][panel.parameter_to_column[name]].setParameterValue(value, context)
        panel.tblParameters.cellWidget(row + 1, panel.parameter_to_column["OUTPUT"]).setValue(output)
    wait(1)
    shoot("batch-rows", dialog)
    dialog.runButton().click()  # which returns when all rows are done
    wait(3)
    shoot("batch", dialog)
    print("rows that came out:", sum(map(os.path.exists, outputs)), "of", len(outputs))
    print("tasks that stayed:", [task.description() for task in QgsApplication.taskManager().activeTasks()])
    dialog.close()


try:
    assert QgsApplication.processingRegistry().algorithmById("geoi2i:translate"), "the plugin is not loaded"
    work()
except Exception:
    traceback.print_exc()
sys.stdout.flush()
os._exit(0)
