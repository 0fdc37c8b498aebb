"""Numbers for continuations, and for the damage that an intervention does.

- `inputs`: what all text scores check first.
- `final_states`: the model's own next-token distribution.
- `language`: which language a text is in.
- `lexicon`: sentiment by a word list.
- `classifier`: sentiment by a classifier.
- `likelihood`: perplexity and sentiment by the model's own probabilities.
- `relevance`: closeness to the prompt.
- `damage`: KL divergence to the clean run.
- `steering_scores`: measures of a sweep.
"""
