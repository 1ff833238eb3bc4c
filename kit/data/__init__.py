"""Data passed between stages: shards of documents, token files, lists of duplicates."""
