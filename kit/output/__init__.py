"""Output for people: log lines, progress of long work, readable quantities."""
