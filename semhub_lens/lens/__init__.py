"""What the model would say at every layer.

- `kernel`: the fused kernel: all that is asked of one block of logits.
- `targets`: positions and words that `target_lens` reads.
- `logit_lens`: `logit_lens`, `LogitLens`, `target_lens`.
- `language_mass`: `language_mass`.
- `language_tables`: token to language and token to script.
- `trajectories`: paths of states among anchors.
"""
