"""Readers of the pictures and speech that spokes learn from."""
