"""Items to measure on, generated or bundled, and readers of users' corpora.

- `text`: sentences, passages, glosses, openings, sentiment; GALE, CC-CEDICT, your own files.
- `numbers`: arithmetic, number words, items for probing.
- `code`: real Python programs.
- `semantics`: sentences with logical forms, and who did what to whom.
- `media`: pictures and sound; COCO, VGGSound.
"""
