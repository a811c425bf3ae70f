"""Windows of a raster through a network: sampling, tiling, blending."""
