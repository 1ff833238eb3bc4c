"""Speeds, as ratios against a named peer in one run: python -m tests.benchmarks.NAME."""
