"""The explorer in a notebook: type a prompt, change a run, see the effect.

- `asked`: a request: prompts, quantities, interventions, attributions.
- `script`: the same request as code.
- `bench`: the runs for a request.
- `newest`: a thread that drops a run when there is a newer request.
- `explorer`: `explore`, `Explorer`: the widget.
"""
