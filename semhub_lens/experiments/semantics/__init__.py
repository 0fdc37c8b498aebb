"""Formal semantics: logical forms and role words."""
