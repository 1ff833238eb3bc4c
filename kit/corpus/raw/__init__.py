"""Raw text at hand: found, fetched, cut into pieces, and read line by line."""
