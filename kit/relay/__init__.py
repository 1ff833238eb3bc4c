"""The relay as a whole: its stages in order, submitted and run, and where each of them stands."""
