"""Deduplication: find documents that occur earlier in the corpus, in two passes of array jobs."""
