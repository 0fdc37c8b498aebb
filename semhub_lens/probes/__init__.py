"""Linear classifiers of labels at every layer. They show what can be decoded, not what the model uses.

- `items`: labels, groups, folds.
- `fitting`: the classifier and its settings.
- `predictions`: held-out accuracy, with controls.
- `probe`: `linear_probe`.
- `transfer`: `transfer_matrix`.
- `attached`: `train_probe`, `LinearProbe`: a trained classifier in any run.
"""
