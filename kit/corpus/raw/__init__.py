"""Raw text: locate, fetch and verify it, cut it into pieces, and read those line by line."""
