"""Arithmetic: similarity, the lens, trajectories, steering."""
