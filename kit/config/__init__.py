"""Recipes and cluster files: read from YAML, overridden and checked."""
