"""Normalisation: neologdn, its rules for many lines at once, and the text preserved from it."""
