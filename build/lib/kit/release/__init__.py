"""What becomes of a finished run: scores, a folder to give away, text."""
