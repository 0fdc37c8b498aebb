"""Scores of continuations: language, relevance, sentiment, perplexity, and the damage that an intervention does."""
