r"""`Translators`: one affine map per layer to the last layer's space (a tuned lens), for one model only.

$$t_\ell(h) = k_\ell h + A_\ell h + b_\ell$$

A translator is trained to reproduce the model's final distribution. Its read-out may be the model's own guess at that
layer, or a guess that the translator has learned. Agreement alone does not distinguish the two.
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
"""The packaged sets; `norm="tuned"` uses the one for the model's weights."""
CONFIG, PARAMETERS = "config.json", "params.pt"
HUB = "AlignmentResearch/tuned-lens"
"""The hub space with the lenses of the package `tuned-lens`, in the folder `lens`."""


@dataclass(frozen=True, eq=False)
class Translators(Result):
    r"""One affine map per layer to the last layer's space, $t_\ell(h) = k_\ell h + A_\ell h + b_\ell$ (a tuned lens).

    Get it from `train_translators`, `load`, `from_tuned_lens` or `packaged`. Pass it to a read-out,
    `Readout(model, translator=translators)`, which refuses any other model.

    **What this does not show.** A low KL says that an affine map can predict the final distribution from the state, not
    that the model has it there. On another kind of text or language than in training, a translator may be worse than
    the plain lens.

    Source: Belrose et al. 2023 (tuned lens).
    """

    name: str
    """A description."""
    left: Float[Tensor, "layer d_model rank"]
    """$A_\\ell$, or its left factor; of residual entries 0 to L - 1."""
    right: Float[Tensor, "layer rank d_model"] | None
    """The right factor of $A_\\ell$; None where `left` is $A_\\ell$ itself."""
    bias: Float[Tensor, "layer d_model"]
    keep: Float[Tensor, " layer"]
    """$k_\\ell$: 1 but for maps of low rank, which could not take away what a state has of its own."""
    kl: Float[Tensor, "reading entry text"]
    """KL divergence from the final distribution to the plain lens (0) and to the translated lens (1), in nats, for each
    held-out text. It is the mean over the read positions, NaN for a text without any, and empty if it was not measured.
    """
    groups: tuple[str, ...] = ()
    """The group (such as a language) of every held-out text."""
    steps: tuple[int, ...] = ()
    """The training step of each layer's maps: 0 is the least-squares start, -1 the plain lens."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """A description of the training."""

    @checked
    def __call__(self, states: Float[Tensor, "*rows d_model"], layer: int) -> Float[Tensor, "*rows d_model"]:
        """States of a residual entry in the space of the last one, in float32 (or the states' own wider dtype).

        Args:
            states: residual states of that entry.
            layer: the residual entry (0 = embedding).

        Raises:
            SemhubError: an entry that has no translator, states of another width.
        """
        if not 0 <= layer < len(self.bias):
            raise SemhubError(f"There are translators for residual entries 0 to {len(self.bias) - 1}, not for {layer}.")
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
        """The name with a fingerprint of the maps, for provenances."""
        maps = {"left": self.left, "bias": self.bias, "keep": self.keep} | (
            {} if self.right is None else {"right": self.right}
        )
        return f"{self.name} {tensors_sha256(maps)[:LENGTH]}"

    @checked
    def check(self, model: Model) -> None:
        """Compare the translators with a model.

        Args:
            model: the model to read.

        Raises:
            SemhubError: they were made for another model.
        """
        require_model(model)
        own, made = provenance_of(model), self.provenance
        shape, wanted = tuple(self.bias.shape), (n_layers(model), int(model.cfg.d_model))
        if shape != wanted or not same_model(own, made):
            raise SemhubError(
                f"The translators {self.name!r} were made for {identity(made)} with {shape[0]} blocks of width "
                f"{shape[1]}; this model is {identity(own)} with {wanted[0]} blocks of width {wanted[1]}. Train "
                "translators on this model (shl.train_translators). To use these anyway, wrap them in a function: "
                "Readout(model, translator=lambda states, layer: translators(states, layer))."
            )

    @classmethod
    @checked
    def load(cls, path: str | Path, model: Model | None = None) -> "Translators":
        """Read translators that `save` wrote.

        Args:
            path: the file.
            model: the model to compare with; with None, only a read-out compares.

        Raises:
            SemhubError: no such file, not translators, or made for another model.

        Example:
            >>> translators = Translators.load("translators.safetensors", model)  # doctest: +SKIP
        """
        translators = super().load(path)
        if model is not None:
            translators.check(model)
        return translators

    @classmethod
    @checked
    def packaged(cls, model: Model) -> "Translators":
        """The set that is packaged for the model; `norm="tuned"` reads through it.

        Args:
            model: any TransformerLens model.

        Raises:
            Unfit: there is none for these weights.

        Example:
            >>> Translators.packaged(model).by_group()["fr"]  # doctest: +SKIP
        """
        require_model(model)
        own = provenance_of(model)
        sets = [cls.load(path) for path in sorted(FOLDER.glob("*.safetensors"))]
        for translators in sets:
            if same_model(own, translators.provenance):
                return translators
        raise Unfit(
            f"No translators are packaged for {identity(own)}, only for "
            f"{', '.join(identity(each.provenance) for each in sets) or 'no model'}. Train your own, translators = "
            "shl.train_translators(model, texts), and read with readout=shl.Readout(model, translator=translators)."
        )

    @classmethod
    @checked
    def from_tuned_lens(cls, model: Model, source: str | Path, *, any_model: bool = False) -> "Translators":
        """Load a lens that the package `tuned-lens` saved.

        Its files are `config.json` and `params.pt`. The latter has `0.weight`, `0.bias`, `1.weight`, ... for the same
        residual entries as here. It is read without running any pickled code.

        Args:
            model: the model it was trained for.
            source: the folder of these files, or a name in that package's hub space, such as
                `EleutherAI/pythia-160m-deduped`.
            any_model: accept an unembedding that differs from the file's (a fine-tuned model).

        Raises:
            SemhubError: no such files, other contents, another width, depth or unembedding, or weights that
                TransformerLens has folded or centred, which have different states.

        Example:
            >>> tuned = Translators.from_tuned_lens(model, "EleutherAI/pythia-160m-deduped")  # doctest: +SKIP
        """
        require_model(model)
        if (processing := weight_processing(model)) != "none":
            raise SemhubError(
                f"A tuned lens needs raw weights, but these are {processing}: load the model without processing."
            )
        config, parameters = _tuned_lens_files(source)
        if not any_model and config.get("unembed_hash") not in (None, _unembed_hash(model)):
            raise SemhubError(
                f"The tuned lens in {source} was trained for {config.get('base_model_name_or_path')!r} with another "
                "unembedding than this model's; pass any_model=True to use it anyway."
            )
        layers, width = n_layers(model), int(model.cfg.d_model)
        shapes = {name: tuple(value.shape) for name, value in parameters.items()}
        wanted = {f"{layer}.weight": (width, width) for layer in range(layers)}
        if shapes != wanted | {f"{layer}.bias": (width,) for layer in range(layers)}:
            raise SemhubError(
                f"Expected {PARAMETERS} to have N.weight [{width} {width}] and N.bias [{width}] for N = 0 to "
                f"{layers - 1}, like this model's blocks; it has {_few(shapes)}."
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
    """That package's hash: the SHA-256 of NumPy's printout of the unembedding, to one decimal."""
    printed = np.array_str(unembedding(model, device="cpu").detach().T.float().cpu().numpy(), precision=1)
    return sha256(printed.encode())


def _few(shapes: Mapping[str, tuple[int, ...]]) -> str:
    listed = [f"{name} {list(shape)}" for name, shape in shapes.items()]
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "") or "nothing"
