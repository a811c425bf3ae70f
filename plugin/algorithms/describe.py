"""Describe model: `geoi2i models show`."""

import html

from qgis.core import QgsProcessingException, QgsProcessingParameterFileDestination, QgsProcessingParameterString

from .. import models
from ..files import put
from ..text import tr
from .base import Algorithm


class DescribeModel(Algorithm):
    key = "describemodel"
    title = "Describe model"
    section = "Models"
    words = ("model", "manifest")
    purpose = ("Shows what a model takes and gives, what it was trained on, what was measured, and its licence.\n\n"
               "Example: MODEL jupiter-rgb.")

    def initAlgorithm(self, configuration=None):
        self.add_listed(QgsProcessingParameterString("MODEL", tr("Model"), "jupiter-rgb"), "ModelWrapper", tr(
            "Name or folder of a model. Example: jupiter-rgb"))
        self.add(QgsProcessingParameterFileDestination("OUTPUT", tr("Description"), "HTML (*.html)", None, True), tr(
            "The same as a page, shown in the results viewer. Example: model.html"))

    def processAlgorithm(self, parameters, context, feedback):
        model = models.argument(self.parameterAsString(parameters, "MODEL", context))
        lines = self.work(["models", "show", model], feedback)
        output = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        if not output:
            return {}
        rows = (line.partition(" ") for line in lines if line.strip())
        page = "<meta charset='utf-8'><table>" + "".join(
            f"<tr><th align='left' valign='top'>{html.escape(key)}</th><td>{html.escape(text.strip())}</td></tr>"
            for key, _, text in rows) + "</table>"
        try:
            put(page.encode(), output)
        except OSError as error:
            raise QgsProcessingException(tr("{} cannot be written ({}): choose another file.").format(
                output, error.strerror)) from error
        return {"OUTPUT": output}
