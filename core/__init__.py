"""Numerics and raster input and output. Knows no command line, no trainer, no QGIS."""
