"""A vocabulary from segmented words, and tokens from documents."""
