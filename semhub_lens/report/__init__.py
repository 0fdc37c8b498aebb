"""All experiments as one page, and on several models as one table.

- `report`: the hub report.
- `hub_page`: its page, which is written anew as more is measured.
- `record`: report.json beside the page, written and read.
- `compare`: two reports side by side.
- `results_page`: the table of results.
- `orchestration`: choosing experiments and running them on one model, for both.
- `templates`: the pages' templates.
"""
