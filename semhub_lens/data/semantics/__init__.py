"""Sentences with their logical forms, and who did what to whom."""
