"""The run directory: what a submitted job reads, what has begun, and what may be amended."""
