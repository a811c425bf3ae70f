"""A raster as a stream of rows: opening untrusted files, and reading them."""
