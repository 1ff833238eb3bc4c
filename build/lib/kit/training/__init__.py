"""The long run: from token files to checkpoints."""
