"""A raster on another grid."""
