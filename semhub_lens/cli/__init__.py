"""The command `semhub`.

- `main`: its commands.
- `about`: versions, facts and checks to paste into a bug report; the packaged models.
- `lens_shown`: a lens as a coloured table or as JSON.
- `compared`: two saved reports on one page.
- `printed`: tables and JSON of results.
- `starter`: the script or notebook that `semhub new` writes.
- `options`: shared options, printing, and loading a model.
"""
