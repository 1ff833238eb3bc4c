"""Models: one module an architecture."""
