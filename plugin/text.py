"""Words that a user reads, in the user's language."""

from qgis.PyQt.QtCore import QCoreApplication


def tr(text):
    """The translation of an English text."""
    return QCoreApplication.translate("GeoI2I", text)
