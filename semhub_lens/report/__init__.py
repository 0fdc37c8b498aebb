"""All experiments as one page, and on several models as one table.

- `report`: the hub report.
- `results_page`: the table of results.
- `orchestration`: choosing experiments and running them on one model, for both.
- `templates`: the pages' templates.
"""
