"""A prompt's tokens coloured by one lens quantity at one layer.

CircuitsVis draws it from its local files (no network).
"""

from typing import Literal

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.lens import row_of
from semhub_lens.views.style import escape


class OfflineHTML:
    """HTML that a notebook shows without using the network (CircuitsVis itself uses it at every display)."""

    def __init__(self, document: str) -> None:
        self.document = document

    def _repr_html_(self) -> str:
        return self.document


@checked
def token_strip(
    result: LensResult, layer: int, quantity: Literal["entropy", "kl_to_final", "probability"] = "kl_to_final"
) -> OfflineHTML:
    """Colour the prompt's tokens by a quantity of the lens at one layer.

    Args:
        result: from `logit_lens`.
        layer: the layer; 0 is the embedding.
        quantity: "entropy" or "kl_to_final" in nats, or the "probability" of the most probable token.

    Returns:
        HTML that a notebook shows.

    Raises:
        SemhubError: unknown layer or quantity.

    Example:
        >>> lens = logit_lens(tiny_model, "three plus two", progress=False)
        >>> strip = token_strip(lens, layer=1, quantity="entropy")
    """
    row = row_of(result, layer)
    if quantity not in ("entropy", "kl_to_final", "probability"):
        raise SemhubError(f"Unknown quantity {quantity!r}; expected 'entropy', 'kl_to_final' or 'probability'.")
    values = result.top_logprobs[..., 0].exp() if quantity == "probability" else getattr(result, quantity)
    from circuitsvis.tokens import colored_tokens  # slow to import

    drawn = colored_tokens([escape(label) for label in result.labels], values[row].tolist())
    return OfflineHTML(drawn.local_src)
