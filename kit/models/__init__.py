"""Models: one module per architecture."""
