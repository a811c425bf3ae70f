"""Outputs, written strip by strip."""
