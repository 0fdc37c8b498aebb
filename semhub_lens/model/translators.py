r"""`Translators`: one affine map a layer into the last layer's space (a tuned lens), refused by another model.

$$t_\ell(h) = k_\ell h + A_\ell h + b_\ell$$

A translator is trained to agree with the model's final distribution. What it reads out may be the model's own guess at
that layer, or what the translator has learned to guess from it; agreement alone does not tell the two apart.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.files import reason, user_path
from semhub_lens.base.fingerprints import LENGTH, sha256, tensors_sha256
from semhub_lens.base.results import Result
from semhub_lens.model.facts import Model, identity, provenance_of, require_model, same_model, weight_processing
from semhub_lens.model.hooking import n_layers
from semhub_lens.model.weights import unembedding

FOLDER = Path(__file__).parent / "weights"
"""The packaged sets; `norm="tuned"` takes the one of the model's weights."""
CONFIG, PARAMETERS = "config.json", "params.pt"
HUB = "AlignmentResearch/tuned-lens"
"""The space on the hub where the package `tuned-lens` keeps its lenses, in the folder `lens`."""


@dataclass(frozen=True, eq=False)
class Translators(Result):
    r"""One affine map a layer into the last layer's space, $t_\ell(h) = k_\ell h + A_\ell h + b_\ell$ (a tuned lens).

    From `train_translators`, `load`, `from_tuned_lens` or `packaged`. Give it to a read-out,
    `Readout(model, translator=translators)`, which refuses another model.

    **What this does not show.** A low KL says that the final distribution can be guessed from the state by an affine
    map, not that the model has it there. On text of another kind or language than it was trained on, a translator may
    guess worse than the plain lens.

    Source: Belrose et al. 2023 (tuned lens).
    """

    name: str
    """What it is, in words."""
    left: Float[Tensor, "layer d_model rank"]
    """$A_\\ell$, or its left factor; of residual entries 0 to L - 1."""
    right: Float[Tensor, "layer rank d_model"] | None
    """The right factor of $A_\\ell$; None where `left` is $A_\\ell$ itself."""
    bias: Float[Tensor, "layer d_model"]
    keep: Float[Tensor, " layer"]
    """$k_\\ell$: 1 but for maps of low rank, which could not take away what a state has of its own."""
    kl: Float[Tensor, "reading entry text"]
    """Of held-out texts, KL of the final distribution from the plain lens (0) and the translated one (1), in nats; mean
    over the positions that were read, NaN for a text of which none was. No text where it was not measured."""
    groups: tuple[str, ...] = ()
    """The group (a language) of every held-out text."""
    steps: tuple[int, ...] = ()
    """After how many steps each layer's maps were kept: 0 is the least-squares start, -1 the plain lens."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it was trained."""

    @checked
    def __call__(self, states: Float[Tensor, "*rows d_model"], layer: int) -> Float[Tensor, "*rows d_model"]:
        """States of a residual entry in the last one's space, in float32 (or the states' own dtype if that is wider).

        Raises:
            SemhubError: an entry that has no translator, states of another width.
        """
        if not 0 <= layer < len(self.bias):
            raise SemhubError(f"There are translators of residual entries 0 to {len(self.bias) - 1}, not of {layer}.")
        if states.shape[-1:] != self.bias.shape[-1:]:
            raise SemhubError(
                f"The translators read states of width {self.bias.shape[-1]}, got shape {tuple(states.shape)}."
            )
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        left, bias = self.left[layer].to(states), self.bias[layer].to(states)
        inner = states if self.right is None else states @ self.right[layer].to(states).T
        return float(self.keep[layer]) * states + inner @ left.T + bias

    @property
    def signature(self) -> str:
        """The name with a fingerprint of the maps, for the provenance of what is read through them."""
        maps = {"left": self.left, "bias": self.bias, "keep": self.keep} | (
            {} if self.right is None else {"right": self.right}
        )
        return f"{self.name} {tensors_sha256(maps)[:LENGTH]}"

    @checked
    def check(self, model: Model) -> None:
        """Raise a SemhubError if the translators were made for another model."""
        require_model(model)
        own, made = provenance_of(model), self.provenance
        shape, wanted = tuple(self.bias.shape), (n_layers(model), int(model.cfg.d_model))
        if shape != wanted or not same_model(own, made):
            raise SemhubError(
                f"The translators {self.name!r} were made for {identity(made)} with {shape[0]} blocks of width "
                f"{shape[1]}; this model is {identity(own)} with {wanted[0]} blocks of width {wanted[1]}. Train some "
                "on this model (shl.train_translators). To read it through them anyway, wrap them in a function: "
                "Readout(model, translator=lambda states, layer: translators(states, layer))."
            )

    @classmethod
    @checked
    def load(cls, path: str | Path, model: Model | None = None) -> "Translators":
        """Read translators that `save` wrote.

        Args:
            path: the file.
            model: the model they are to read; None does not compare, a read-out does.

        Raises:
            SemhubError: no such file, not translators, or made for another model.
        """
        translators = super().load(path)
        if model is not None:
            translators.check(model)
        return translators

    @classmethod
    @checked
    def packaged(cls, model: Model) -> "Translators":
        """The set that this package ships for the model; `norm="tuned"` reads through it.

        Raises:
            Unfit: there is none for these weights.
        """
        require_model(model)
        own = provenance_of(model)
        sets = [cls.load(path) for path in sorted(FOLDER.glob("*.safetensors"))]
        for translators in sets:
            if same_model(own, translators.provenance):
                return translators
        raise Unfit(
            f"No translators are packaged for {identity(own)}, only for "
            f"{', '.join(identity(each.provenance) for each in sets) or 'no model'}. Train some on texts of yours, "
            "translators = shl.train_translators(model, texts), and read with "
            "readout=shl.Readout(model, translator=translators)."
        )

    @classmethod
    @checked
    def from_tuned_lens(cls, model: Model, source: str | Path, *, any_model: bool = False) -> "Translators":
        """Take over a lens that the package `tuned-lens` saved.

        Its files are `config.json` and `params.pt`, which holds `0.weight`, `0.bias`, `1.weight`, ... of the same
        residual entries as here. The file is read without running what is pickled in it.

        Args:
            model: the model it was trained for.
            source: the folder of these files, or a name in that package's space on the hub, such as
                `EleutherAI/pythia-160m-deduped`.
            any_model: accept another unembedding than the file names (a fine-tuned model).

        Raises:
            SemhubError: no such files, other contents, another width, depth or unembedding, or weights that
                TransformerLens has folded or centred: their states are others.
        """
        require_model(model)
        if (processing := weight_processing(model)) != "none":
            raise SemhubError(f"A tuned lens is of raw weights, but these are {processing}: load without processing.")
        config, parameters = _tuned_lens_files(source)
        if not any_model and config.get("unembed_hash") not in (None, _unembed_hash(model)):
            raise SemhubError(
                f"The tuned lens in {source} was trained for {config.get('base_model_name_or_path')!r} with another "
                "unembedding than this model's; pass any_model=True if you mean it."
            )
        layers, width = n_layers(model), int(model.cfg.d_model)
        shapes = {name: tuple(value.shape) for name, value in parameters.items()}
        wanted = {f"{layer}.weight": (width, width) for layer in range(layers)}
        if shapes != wanted | {f"{layer}.bias": (width,) for layer in range(layers)}:
            raise SemhubError(
                f"Expected {PARAMETERS} to hold N.weight [{width} {width}] and N.bias [{width}] for N = 0 to "
                f"{layers - 1}, as this model's blocks are; it holds {_few(shapes)}."
            )
        weight, bias = (
            torch.stack([parameters[f"{layer}.{part}"].detach() for layer in range(layers)])
            for part in ("weight", "bias")
        )
        name = f"tuned-lens {config.get('base_model_name_or_path', source)}"
        one, nothing = torch.ones(layers, dtype=torch.float32), torch.zeros(2, layers + 1, 0, dtype=torch.float32)
        return cls(name, weight, None, bias, one, nothing, provenance=provenance_of(model))

    def by_group(self) -> dict[str, Float[Tensor, "reading entry"]]:
        """Mean KL over every group's held-out texts, plain (0) and translated (1), in nats."""
        chosen = {group: torch.tensor([one == group for one in self.groups]) for group in dict.fromkeys(self.groups)}
        return {group: self.kl[:, :, mask].nanmean(-1) for group, mask in chosen.items()}

    def to_frame(self) -> pd.DataFrame:
        """One row per residual entry and group: mean KL over its held-out texts, plain and translated, in nats."""
        read = ~self.kl[0].isnan()
        rows = [
            (layer, group, sum(read[layer, i].item() for i, one in enumerate(self.groups) if one == group), *pair)
            for group, means in self.by_group().items()
            for layer, pair in enumerate(means.T.tolist())
        ]
        return pd.DataFrame(rows, columns=["layer", "group", "texts", "plain", "translated"])


def _tuned_lens_files(source: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    folder = user_path(source)
    try:
        if folder.is_dir() or folder.is_absolute():
            files = [folder / CONFIG, folder / PARAMETERS]
        else:
            from huggingface_hub import hf_hub_download

            named = [f"lens/{source}/{name}" for name in (CONFIG, PARAMETERS)]
            files = [Path(hf_hub_download(HUB, name, repo_type="space")) for name in named]
        config = json.loads(files[0].read_text(encoding="utf-8"))
        parameters = torch.load(files[1], map_location="cpu", weights_only=True)
    except Exception as error:  # hub and readers raise types of their own
        raise SemhubError(
            f"{source} is neither a folder with {CONFIG} and {PARAMETERS} of the package tuned-lens nor a lens that "
            f"could be read from the hub's space {HUB}: {reason(error)}"
        ) from error
    tensors = isinstance(parameters, Mapping) and all(isinstance(value, Tensor) for value in parameters.values())
    if not isinstance(config, dict) or not tensors:
        raise SemhubError(f"{source}: expected an object in {CONFIG} and tensors by name in {PARAMETERS}.")
    return config, dict(parameters)


def _unembed_hash(model: Model) -> str:
    """What that package calls so: the SHA-256 of how NumPy prints the unembedding, to one decimal."""
    printed = np.array_str(unembedding(model, device="cpu").detach().T.float().cpu().numpy(), precision=1)
    return sha256(printed.encode())


def _few(shapes: Mapping[str, tuple[int, ...]]) -> str:
    listed = [f"{name} {list(shape)}" for name, shape in shapes.items()]
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "") or "nothing"
