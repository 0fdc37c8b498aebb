"""Comparisons of two stacks of states.

- `similarity`: `similarity`, with nulls.
- `measures`: the table of what it measures.
- `alignment`: mutual neighbours and CKA, with nulls.
- `cosine`: `CosineTo`: cosine with reference states in any run.
"""
