"""Arithmetic expressions, number words, and items for probing."""
