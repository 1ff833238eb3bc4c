"""Simulation of a run, attempt by attempt, from its submission to its last step."""
