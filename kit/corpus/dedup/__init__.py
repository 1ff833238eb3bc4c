"""Deduplication: find documents that repeat others, or nearly do, in passes of array jobs."""
