"""How two stacks of states lie to each other.

- `similarity`: `similarity`, with nulls.
- `measures`: the table of what it measures.
- `alignment`: mutual neighbours and CKA, with nulls.
- `cosine`: `CosineTo`: cosine with reference states in any run.
"""
