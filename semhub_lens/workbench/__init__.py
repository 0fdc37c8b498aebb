"""The explorer in a notebook: type a prompt, change a run, see what that does.

- `asked`: what is asked for: prompts, what to read, interventions, attributions.
- `script`: the same as code.
- `bench`: the runs that answer it.
- `newest`: a thread that drops a run when a newer one is asked for.
- `explorer`: `explore`, `Explorer`: the widget.
"""
