"""Recipes, window sampling, methods, losses and the one training loop."""
