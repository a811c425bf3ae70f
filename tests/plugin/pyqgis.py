"""Starts QGIS and Processing with the plugin, then runs the script in the first argument."""

import os
import sys

sys.path[:0] = ["/usr/share/qgis/python/plugins", os.path.join(os.environ["QGIS_CUSTOM_CONFIG_PATH"],
                                                               "profiles/default/python/plugins")]
from qgis.core import QgsApplication  # noqa: E402

app = QgsApplication([], True, os.path.join(os.environ["QGIS_CUSTOM_CONFIG_PATH"], "profiles/default"))
app.initQgis()
import processing  # noqa: E402
from geoi2i import classFactory  # noqa: E402
from processing.core.Processing import Processing  # noqa: E402

Processing.initialize()
plugin = classFactory(None)
plugin.initProcessing()
exec(compile(sys.argv[1], "script", "exec"), {"processing": processing, "plugin": plugin, "arguments": sys.argv[2:]})
sys.stdout.flush()
os._exit(0)  # layers that outlive QGIS crash it on the way out
