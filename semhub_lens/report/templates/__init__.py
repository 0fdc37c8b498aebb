"""The pages' templates, and filling them: report.html and results.md."""

from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from semhub_lens.base.shown_text import harmless


def filled(template: str, **values: Any) -> str:
    """A template with its values; in HTML they are escaped."""
    environment = Environment(
        loader=PackageLoader("semhub_lens.report"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: harmless(value, kept="\n\t") if type(value) is str else value,  # not marked as safe
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    return environment.get_template(template).render(**values)
