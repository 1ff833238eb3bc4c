"""Acceptance: whether this machine can train this recipe, shown in about ten minutes."""
