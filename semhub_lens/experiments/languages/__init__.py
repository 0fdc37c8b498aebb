"""Languages: similarity of translations, the lens in running text, language mass, patchscopes, steering."""
