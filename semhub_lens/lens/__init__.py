"""What the model would say at every layer.

- `kernel`: the fused kernel: all that is asked of one block of logits.
- `calls`: what a lens keeps of the call that read it.
- `logit_lens`: `logit_lens`, `LogitLens`.
- `attribution`: `direct_attribution`: which blocks wrote a token's logit.
- `comparison`: `compare`: two lenses cell by cell.
- `targets`: `target_lens`: given words at chosen positions.
- `language_mass`: `language_mass`.
- `language_tables`: token to language and token to script.
- `translator_fit`: how the translator of one layer is trained.
- `translator_training`: `train_translators` (tuned lens).
- `trajectories`: paths of states among anchors.
"""
