"""Checks of a site: before you submit (`jobs.pipeline check`), and in short at each start."""
