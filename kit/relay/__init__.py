"""The relay as a whole: what is known of its jobs before they run, and what became of each."""
