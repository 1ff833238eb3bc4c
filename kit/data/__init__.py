"""What passes between stages: shards of documents, token files, and which documents came before."""
