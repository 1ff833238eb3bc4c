"""Slurm, or a small supervisor in its place."""
