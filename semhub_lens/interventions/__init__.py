"""Interventions: hooks that change activations, directions to change them along, and generation under hooks."""
