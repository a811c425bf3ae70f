"""The QGIS plugin: Processing algorithms over the command line, which runs in another process."""
