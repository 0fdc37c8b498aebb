"""Texts: translated sentences, passages, glosses, openings, sentiment; readers of your own corpora."""
