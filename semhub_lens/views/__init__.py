"""Results to figures and offline pages. Nothing here runs a model or shows a figure by itself.

- `figure`: `figure`: any result drawn; importing it registers every drawer.
- `page`: `write_html`, whole pages.
- `explorer`: the page of a lens, in a file and in a notebook.
- `style`: the look of all figures.
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
- `patchscope`: states read in a prompt.
- `sweep`: steering sweeps and vectors.
- `trajectories`: paths among anchors.
- `generation`: prompts and continuations.
"""
