"""Check installation: `geoi2i doctor`, and an environment where there is none."""

import platform

import qgis.utils
from qgis.core import Qgis, QgsProcessingException, QgsProcessingParameterBoolean

from .. import environment, process
from ..text import tr
from .base import Algorithm


class CheckInstallation(Algorithm):
    key = "checkinstallation"
    title = "Check installation"
    section = "Set-up"
    words = ("install", "environment", "torch", "python")
    purpose = ("Says which Python GeoI2I runs in, which packages, devices and models it finds there, and what is "
        "missing.\n\n"
               "With Make an environment for GeoI2I it first makes one, outside QGIS and outside the plugin's folder. "
               "The log can be copied into a report.")

    def initAlgorithm(self, configuration=None):
        # Nobody downloads that much by a script that does not ask for it.
        wanted = qgis.utils.iface is not None and environment.is_missing()
        self.add(QgsProcessingParameterBoolean("CREATE", tr(environment.BOX), wanted), tr(
            "Makes {} anew and installs torch and the other packages: a download of 0.3 to 3 GB. Needs a Python 3.11 "
            "or newer on this computer. Example: yes, the first time").format(environment.managed_folder()))

    def processAlgorithm(self, parameters, context, feedback):
        feedback.pushInfo(f"QGIS {Qgis.QGIS_VERSION}, Python {platform.python_version()}, {platform.platform()}")
        try:
            if self.parameterAsBool(parameters, "CREATE", context):
                made = environment.create(feedback)
                if environment.usable() != made:
                    environment.prefer(made)
                if environment.usable() != made:
                    feedback.pushWarning(tr("The variable {} names another Python, which goes before {}.").format(
                        environment.SETTING, made))
            feedback.pushInfo(tr("The worker's Python: {}").format(environment.interpreter()))
        except (environment.NoInterpreter, OSError) as error:
            raise QgsProcessingException(_here(str(error))) from error
        except process.Ended:
            raise QgsProcessingException(tr("Cancelled; no environment was left.")) from None
        try:
            printed = self.work(["doctor"], feedback)
        except QgsProcessingException as error:
            raise QgsProcessingException(_here(str(error))) from error
        if not environment.is_ours(printed):
            raise QgsProcessingException(_here(tr("{} ran, and is not a Python that runs GeoI2I: {}.").format(
                environment.interpreter(), tr(environment.REMEDY))))
        feedback.pushInfo(tr("GeoI2I is ready."))
        return {}


def _here(text):
    """Advice for somebody who is running this very algorithm."""
    box = tr("tick {}").format(tr(environment.BOX))
    return text.replace(tr("run Check installation"), box).replace(tr(" in Check installation"), "")
