"""All experiments as one page, and on several models as one table.

- `report`: the hub report.
- `results_page`: the table of results.
"""
