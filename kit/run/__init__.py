"""The run directory: its contents, its recipe once training has begun, and amendments of it."""
