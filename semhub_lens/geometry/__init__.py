"""Comparisons of two stacks of states.

- `similarity`: `similarity`, with nulls.
- `measures`: the table of what it measures.
- `alignment`: mutual neighbours and CKA, with nulls.
- `shifted_cka`: CKA of all layers under shifted pairings, by a Fourier transform.
- `cosine`: `CosineTo`: cosine with reference states in any run.
"""
