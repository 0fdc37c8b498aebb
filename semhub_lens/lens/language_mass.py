"""Language mass: the probability of each language in the lens distribution, layer by layer.

The mass shows which tokens are probable in the read-out. It does not show in which language the model "thinks". Digits,
punctuation and tokens that no listed language uses are counted separately.
"""

from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.base.progress import tqdm
from semhub_lens.base.results import Result, check_finite
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.lens.kernel import reduce_logits
from semhub_lens.lens.language_tables import LanguageTable
from semhub_lens.model.capture import prompt_states
from semhub_lens.model.checks import batch_notes
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import Hooks, hook_names, require_hooks
from semhub_lens.model.readout import Norm, Readout, make_readout, output_size
from semhub_lens.model.reads import spread
from semhub_lens.model.resolve import as_prompts


@dataclass(frozen=True, eq=False)
class MassResult(Result):
    """Probability mass per language at every layer, for each prompt; `language_mass` makes it."""

    item_mass: Float[Tensor, "layer item lang"]
    """Mean over the prompt's positions of the sum over tokens of p(token) p(language | token)."""
    positions: Int[Tensor, " item"]
    """The number of positions of each prompt."""
    languages: tuple[str, ...]
    source: str

    @property
    def mass(self) -> Float[Tensor, "layer lang"]:
        """Mean over all positions of all prompts; each layer sums to 1."""
        weights = self.positions / self.positions.sum()
        return torch.einsum("ijk,j->ik", self.item_mass, weights)

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, item and language."""
        layers, items, _ = self.item_mass.shape
        index = pd.MultiIndex.from_product(
            [range(layers), range(items), self.languages], names=["layer", "item", "lang"]
        )
        return pd.DataFrame({"mass": self.item_mass.flatten().numpy()}, index).reset_index()


@checked
def language_mass(
    model: Model,
    prompts: Prompts,
    table: LanguageTable,
    *,
    positions: int | None = None,
    norm: Norm = "final",
    readout: Readout | None = None,
    hooks: Hooks = (),
    progress: bool = True,
) -> MassResult:
    r"""Return the probability mass of each language at every layer.

    $$m_\ell(\text{lang}) = \operatorname{mean}_{\text{pos}} \sum_v p_\ell(v)\, p(\text{lang} \mid v)$$

    The BOS position is left out, because it has seen no text. The mass shows which tokens can be read out. It does not
    show in which language the model "thinks".

    Args:
        model: any TransformerLens model.
        prompts: texts, `Prompt`s, token ids or chat messages.
        table: from `language_table(model)` or `script_table(model)`.
        positions: the number of positions to read in each prompt, evenly spaced; None reads all. The mean is over
            these.
        norm: "final", "none", "paper" or "tuned"; see `Readout`.
        readout: your own `Readout` in place of `norm`.
        hooks: interventions during the runs.
        progress: show a progress bar.

    Returns:
        `.mass` [layer lang] (sums to 1 over languages), `.item_mass` [layer item lang].

    Raises:
        SemhubError: empty input, or a table for another vocabulary.

    Example:
        >>> table = shl.script_table(tiny_model)
        >>> mass = language_mass(tiny_model, ["three plus two", "red dog"], table, progress=False)
        >>> mass.item_mass.shape[1], torch.allclose(mass.mass.sum(-1), torch.ones(len(mass.mass)))
        (2, True)
    """
    listed = as_prompts(model, prompts)
    require_hooks(model, hook_names(hooks))
    if len(table.weights) != output_size(model):
        raise SemhubError(
            f"The table covers {len(table.weights)} tokens, the model's vocabulary has {output_size(model)}; build it "
            "for this model."
        )
    if positions is not None and whole_number(positions, "positions=") < 1:
        raise SemhubError(f"positions= is the number of positions to read in each prompt, at least 1, got {positions}.")
    reader = make_readout(model, norm, readout)
    places = [spread(range(_first(prompt), len(prompt)), positions) for prompt in listed]
    item_mass = torch.zeros(reader.n_layers + 1, len(listed), len(table.languages), dtype=torch.float32)
    counts = torch.tensor([len(chosen) for chosen in places])
    bar = tqdm(total=len(listed), desc="language mass", unit="prompt", disable=not progress, leave=False)
    with bar:
        for batch in prompt_states(model, listed, hooks):
            texts = [states[:, places[item]] for item, states in batch]
            joined = torch.cat(texts, dim=1)
            check_finite(joined, "The residual stream")
            mass = reduce_logits(reader, joined, ["mass"], table=table.weights)["mass"]
            for (item, _), part in zip(batch, mass.split([t.shape[1] for t in texts], dim=1), strict=True):
                item_mass[:, item] = part.mean(1)
            bar.update(len(batch))
    return MassResult(
        item_mass=item_mass,
        positions=counts,
        languages=table.languages,
        source=table.source,
        provenance=provenance_of(model, norm=reader.name, bos=listed[0].bos, notes=batch_notes(model, listed)),
    )


def _first(prompt: Prompt) -> int:
    """First position that has seen text."""
    return 1 if prompt.bos and len(prompt) > 1 else 0
