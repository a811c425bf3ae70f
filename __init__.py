"""geoi2i: translate georeferenced rasters from one sensor to another.

Importing this package loads nothing heavy; the Python API is resolved on first use.
"""

__version__ = "0.1.0"

_API = {
    "translate_raster": "run",
    "reproject_raster": "run",
    "read_polygons": "reproject.polygons",
    "evaluate": "evaluation.evaluate",
    "RasterSource": "raster.source",
    "Grid": "grid",
    "Manifest": "models.manifest",
    "ModelPackage": "models.package",
    "StepTable": "inference.steps",
    "Geoi2iError": "errors",
}


def classFactory(iface):
    """What QGIS calls when it loads the plugin."""
    from .plugin.main import Plugin

    return Plugin(iface)


def __getattr__(name):
    if name in _API:
        from importlib import import_module

        return getattr(import_module(".core." + _API[name], __name__), name)
    raise AttributeError("module %r has no attribute %r" % (__name__, name))
