"""Where the time of a run went, when it arrives, and what is wrong: pure functions over its files."""
