"""Figures and offline pages of results. Nothing here runs a model or shows a figure on its own.

- `figure`: `figure`: draws any result; importing it registers all drawing functions.
- `page`: `write_html`, whole pages.
- `explorer`: the page of a lens, in a file and in a notebook.
- `style`: the style of all figures.
- `scale`: the colours of numbers around zero.
- `stills`: a figure as a picture, drawn without a browser.
- `lens`: the logit-lens heat map.
- `token_strip`: tokens coloured by a lens quantity.
- `curves`: curves over layers, legs, experiments.
- `compared`: two reports side by side.
- `sign_map`: the sign of a leg's effect.
- `media_maps`: the lens on pictures and sound.
- `probes`: probes and transfer.
- `patching`: patch grids.
- `concepts`: concept patching.
- `patchscope`: patchscopes.
- `sweep`: steering sweeps and vectors.
- `trajectories`: paths among anchors.
- `generation`: prompts and continuations.
"""
