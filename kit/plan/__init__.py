"""Arithmetic of a run: work of a token, when to save, the learning rate of each step."""
