"""Bundled models, recipes and sample scenes, found by `Path(__file__).parent`."""
