"""The explorer: a lens as one small page with its own script, which needs no network.

- `page`: the page, in a file and in a notebook.
- `code`: the code that a page shows.
- `packing`: the measured numbers in a compact form.
- `languages`: the language of a token, and the order of colours.
- `media`: pictures and sound in the page.
- `grids`: patches, cosines and sweeps in the same page.
- `stills`: a map as a picture, for places without scripts.
- `view`: a separate page.
"""
