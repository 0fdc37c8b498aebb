"""The explorer: a lens as one small page of its own script, which asks the network for nothing.

- `page`: the page, and how a notebook shows it.
- `code`: what a page shows as code.
- `packing`: the measured numbers, as small as the page needs them.
- `media`: pictures and sound as the page holds them.
- `grids`: patches, cosines and sweeps in the same shell.
- `stills`: a map as a picture, for where no script runs.
- `view`: a page that is shown by itself.
"""
