"""Scores of continuations, and of the damage of an intervention.

- `inputs`: checks for all text scores.
- `final_states`: the model's own next-token distribution.
- `language`: the language of a text.
- `lexicon`: sentiment from a word list.
- `classifier`: sentiment from a classifier.
- `likelihood`: perplexity and sentiment from the model's own probabilities.
- `relevance`: similarity to the prompt.
- `damage`: KL divergence to the clean run.
- `steering_scores`: measures of a sweep.
"""
