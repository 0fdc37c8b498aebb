"""Readers of the pictures and the speech that spokes learn from."""
