"""The relay as a whole: what became of each stage."""
