"""The command lines: one module per job."""
