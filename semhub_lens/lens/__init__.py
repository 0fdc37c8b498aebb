"""What each layer predicts.

- `kernel`: the fused kernel: all requested quantities of a block of states, piece by piece of their logits.
- `vocabulary_sums`, `highest_logits`, `target_logits`: what is kept of the pieces.
- `curves`: the tokens that lead at some layer, through all layers.
- `calls`: the arguments of a lens, checked and as code.
- `logit_lens`: `logit_lens`, `LogitLens`.
- `attribution`: `direct_attribution`: the contribution of each block to a token's logit.
- `comparison`: `compare`: two lenses cell by cell.
- `targets`: `target_lens`: given words at chosen positions.
- `language_mass`: `language_mass`.
- `language_tables`: token to language and token to script.
- `translator_fit`: training of the translator of one layer.
- `translator_training`: `train_translators` (tuned lens).
- `trajectories`: paths of states among anchors.
"""
