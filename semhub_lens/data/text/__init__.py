"""Texts: translated sentences, passages, glosses, openings, sentiment; readers for your own corpora."""
