r"""`train_translators`: affine maps for each layer, trained to reproduce the final distribution (a tuned lens).

$$\min_{A_\ell,\, b_\ell}\; \operatorname{mean}_h\, D_{KL}\bigl(p_L \,\Vert\, \operatorname{softmax}
\operatorname{readout}(k_\ell h_\ell + A_\ell h_\ell + b_\ell)\bigr)$$

A sum over a large vocabulary would cost as much as the model. So a step sums over candidates: tokens that are probable
under the final distribution or the plain lens, and other random tokens with weights for the rest. The reported KL is
over the whole vocabulary, on texts that were not used for training or stopping.

Every layer is trained separately, from the same draws. So a killed training continues with the layer that it was
training. On the same machine, with the same number of threads, it gives the same maps to the last bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.base.fingerprints import fingerprint, source_fingerprint
from semhub_lens.base.progress import display
from semhub_lens.base.results import check_finite
from semhub_lens.base.rng import generator
from semhub_lens.base.store import Store
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.lens.kernel import reduce_logits
from semhub_lens.lens.translator_fit import Fit, Sample, TranslatorSetup, plain_rows, unpacked
from semhub_lens.model.capture import prompt_states
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import n_layers
from semhub_lens.model.readout import Readout
from semhub_lens.model.resolve import as_prompts
from semhub_lens.model.translators import Translators
from semhub_lens.model.weights import content_of

PARTS = ("train", "stop", "held out")
SHARE = 0.15
"""The share of texts that are held out; the same share are validation texts."""


@checked
def train_translators(
    model: Model,
    texts: Prompts | Mapping[str, Prompts],
    *,
    setup: TranslatorSetup | None = None,
    layers: Sequence[int] | None = None,
    seed: int = 0,
    name: str = "translators",
    folder: str | Path | None = None,
    progress: bool = True,
) -> Translators:
    r"""Train one affine map per layer whose read-out reproduces the final distribution (a tuned lens).

    $$\min_{A_\ell,\, b_\ell}\; \operatorname{mean}_h\, D_{KL}\bigl(p_L \,\Vert\, \operatorname{softmax}
    \operatorname{readout}(k_\ell h_\ell + A_\ell h_\ell + b_\ell)\bigr)$$

    15 % of the texts are held out for `Translators.kl`, and 15 % are validation texts. If no step is better than the
    plain lens, a layer keeps the plain lens. `Translators` says what a low KL does not show.

    Args:
        model: any TransformerLens model; its weights do not change.
        texts: texts, `Prompt`s, token ids or chat messages to train on; or several lists by name (languages), with
            equal shares in every step. Texts with the same index in several lists, such as translations, are never on
            both sides of a split. Do not repeat a text. The BOS position is left out, because it has seen no text.
        setup: the settings; None means `TranslatorSetup()`.
        layers: the residual entries to train, 0 to L - 1; None trains all. The others keep the plain lens and are not
            measured.
        seed: for split, positions, batches and candidates.
        name: a description for provenances.
        folder: a folder for finished layers; with it, a killed training can continue. The parts are removed at the end.
            None keeps nothing.
        progress: show a progress bar.

    Returns:
        The maps, with the held-out KL of every layer; pass them to `Readout(model, translator=...)`.

    Raises:
        SemhubError: an entry out of range, a group with too few texts for the three parts, NaN states, or a folder that
            cannot be written.

    Example:
        >>> texts = [f"{a} plus {b}" for a in ("two", "three", "five") for b in ("one", "four", "six")]
        >>> setup = TranslatorSetup(steps=4, every=2)
        >>> made = train_translators(tiny_model, texts, setup=setup, progress=False)
        >>> lens = logit_lens(tiny_model, "two plus", readout=Readout(tiny_model, translator=made), progress=False)
        >>> lens.provenance.norm.startswith("final + translators")
        True
        >>> made.check(tiny_model)  # says nothing: it is the model of these translators
        >>> made(residual_stream(tiny_model, "two plus", progress=False)[1], layer=1).shape
        torch.Size([1, 32])
    """
    setup, rng = setup or TranslatorSetup(), generator(seed)
    named: Any = texts if isinstance(texts, Mapping) and "input_ids" not in texts else {"all": texts}
    grouped = {str(group): as_prompts(model, listed) for group, listed in named.items()}
    parts = _split(grouped, rng)
    chosen = sorted(
        {whole_number(layer, "A layer") for layer in (range(n_layers(model)) if layers is None else layers)}
    )
    if not chosen or chosen[0] < 0 or chosen[-1] >= n_layers(model):
        raise SemhubError(f"Translators exist for residual entries 0 to {n_layers(model) - 1}, got layers={chosen}.")
    content_of(model)
    own = provenance_of(model, data=", ".join(grouped), data_hash=fingerprint(grouped), seed=seed)
    store = Store(folder, {"setup": asdict(setup), "layers": chosen, "of": asdict(own), "source": source_fingerprint()})
    reader = Readout(model)
    most = (setup.states, -(-setup.held_states // 2), setup.held_states)
    train, stop, held = (_sampled(model, parts[part], some, rng) for part, some in zip(PARTS, most, strict=True))
    rows = [plain_rows(train.states.shape[2], setup)] * reader.n_layers
    with display(shown=progress) as bar:
        task = bar.add_task("training translators", total=len(chosen) * setup.steps)
        for done, layer in enumerate(chosen, 1):
            fit = Fit(reader, layer, (train, stop), setup, seed, lambda: bar.advance(task))
            rows[layer] = store.tensor(f"layer-{layer:03d}", fit)
            bar.update(task, completed=done * setup.steps)
    nothing = torch.zeros(2, reader.n_layers + 1, 0, dtype=torch.float32)
    made = Translators(name, **unpacked(torch.stack(rows), setup), kl=nothing, settings=asdict(setup), provenance=own)
    readers = {"plain": reader, "translated": Readout(model, translator=made)}
    kl = [
        store.tensor(f"kl-{kind}", lambda read=read: _kl_by_text(read, held, chosen, progress))
        for kind, read in readers.items()
    ]
    store.clear()
    return replace(made, kl=torch.stack(kl), groups=held.groups)


def _kl_by_text(reader: Readout, held: Sample, chosen: list[int], progress: bool) -> Float[Tensor, "entry text"]:
    """Mean over the positions of every text; NaN at entries that were not chosen, and for texts without a position."""
    entries = [*chosen, reader.n_layers]
    read = reduce_logits(reader, held.states, ["kl_to_final"], layers=entries, progress=progress)["kl_to_final"]
    found = torch.full((reader.n_layers + 1, len(held.groups)), torch.nan, dtype=torch.float32)
    found[entries] = torch.stack([read[:, held.texts == text].mean(1) for text in range(len(held.groups))], dim=1)
    return found


def _split(grouped: Mapping[str, list[Prompt]], rng: torch.Generator) -> dict[str, dict[str, list[Prompt]]]:
    """The texts of each part by group; texts with the same index in all groups are in the same part."""
    longest = max(map(len, grouped.values()), default=0)
    order, few = torch.randperm(longest, generator=rng).tolist(), max(1, round(SHARE * longest))
    places = dict(zip(PARTS, (order[2 * few :], order[few : 2 * few], order[:few]), strict=True))
    parts = {
        part: {group: [listed[i] for i in sorted(chosen) if i < len(listed)] for group, listed in grouped.items()}
        for part, chosen in places.items()
    }
    short = {group for part in parts.values() for group, listed in part.items() if not listed}
    if short or not grouped:
        counts = {group: len(listed) for group, listed in grouped.items()}
        raise SemhubError(
            f"Every group needs training, validation and held-out texts, about 20 in all; got {counts}, too few for "
            f"{sorted(short)}."
        )
    return parts


def _sampled(model: Model, grouped: Mapping[str, list[Prompt]], most: int, rng: torch.Generator) -> Sample:
    """Residual states at random positions, at most an equal share of `most` for each group."""
    prompts = [(group, prompt) for group, listed in grouped.items() for prompt in listed]
    drawn: list[tuple[int, int]] = []
    counts = []
    for group in grouped:
        places = [(i, place) for i, (own, prompt) in enumerate(prompts) if own == group for place in _places(prompt)]
        order = torch.randperm(len(places), generator=rng)[: max(1, most // len(grouped))]
        drawn += [places[i] for i in order.sort().values.tolist()]
        counts.append(len(order))
    texts, positions = torch.tensor(drawn).unbind(1)
    states = torch.empty(int(model.cfg.n_layers) + 1, len(drawn), int(model.cfg.d_model), dtype=torch.float32)
    for batch in prompt_states(model, [prompt for _, prompt in prompts]):
        for i, own in batch:
            states[:, texts == i] = own[:, positions[texts == i]]
    check_finite(states, "The residual stream")
    return Sample(states, texts, torch.tensor(counts), tuple(group for group, _ in prompts))


def _places(prompt: Prompt) -> range:
    """Positions that have seen text."""
    return range(1 if prompt.bos and len(prompt) > 1 else 0, len(prompt))
