"""Normalisation: neologdn, its rules for many lines at once, and what is preserved from it."""
