"""Arithmetic of a run: FLOP per token, checkpoint interval, learning rate, model and batch sizes."""
