"""All experiments on one model as a page, and on several models as a table.

- `report`: the hub report.
- `hub_page`: its page, which is rewritten after every experiment.
- `record`: report.json next to the page: writing and reading it.
- `compare`: two reports side by side.
- `results_page`: the table of results.
- `orchestration`: choosing experiments and running them on one model.
- `templates`: the pages' templates.
"""
