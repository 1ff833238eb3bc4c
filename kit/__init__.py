"""The library of ekiden: everything the jobs are made of."""

__version__ = "0.1.0"
