"""`check`: the checks of a host model and their consequences for runs, as one small table."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import Unfit
from semhub_lens.base.results import Part, Result
from semhub_lens.model import checks
from semhub_lens.model.agreement import Reference, disagreement, reference_of, whole_pass
from semhub_lens.model.facts import (
    Model,
    new_cache,
    plain_ids,
    provenance_of,
    require_model,
    training_modules,
    weight_processing,
)
from semhub_lens.model.hooking import residual_names
from semhub_lens.model.loading import DTYPES
from semhub_lens.model.readout import Readout
from semhub_lens.model.rotary import rotaries
from semhub_lens.model.sources import config_of, multimodal, read, resolve

Verified = Literal["yes", "no", "not verified", "not applicable"]
RECURRENT = ("state_size", "ssm_state_size", "mamba_d_state", "lru_width", "linear_num_value_heads", "conv_L_cache")
"""A Hugging Face config has one of these if some layers keep a recurrent state in place of keys and values."""
RECURRENT_KINDS = ("linear_attention", "conv", "hybrid", "recurrent", "mamba")
"""What the names of such layers contain."""
EVERYWHERE = ("full_attention", "attention", "global", "moe", "mlp", "dense", "sparse")
"""Kinds of layers that read all tokens, or no other token than their own."""
LIMITED = (
    ("sliding", ("sliding_window", "attention_window_size"), "sliding window of {} tokens"),
    ("local", ("window_size",), "sliding window of {} tokens"),
    ("chunked", ("attention_chunk_size",), "attention in chunks of {} tokens"),
    ("indexed", ("index_topk",), "attention to the {} best tokens"),
)
"""Kinds of layers that read some tokens: what their names contain, the setting that says how many, and words for it."""
TOGETHER = {
    "padded": "Prompts of any lengths share a pass.",
    "equal": "Only prompts of equal length share a pass.",
    "single": "Every prompt runs alone.",
}
PLAIN = "plain attention over all tokens"
NOT_COMPARED = "Nothing stood beside the model: give reference=, a Hugging Face model that no bridge holds."


@dataclass(frozen=True)
class Finding(Part):
    """One row of a `HostCheck`."""

    what: str
    verified: Verified
    figure: float | None
    """The largest measured deviation; None if nothing was measured."""
    tolerance: float | None
    runs: str
    """The consequence for runs."""


@dataclass(frozen=True, eq=False, repr=False)
class HostCheck(Result):
    """The checks of a host model, as a small table; `check` makes it."""

    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether measurements are right: neither the read-out nor the comparison with a reference fails."""
        decisive = ("read-out", "log-probabilities", "states")
        return not any(found.verified == "no" and found.what.startswith(decisive) for found in self.findings)

    def to_frame(self) -> pd.DataFrame:
        """One row per check."""
        return pd.DataFrame([vars(found) for found in self.findings])

    def __repr__(self) -> str:
        lines = [f"{self.provenance.model} ({self.provenance.model_class}, {self.provenance.dtype})"]
        for found in self.findings:
            lines.append(f"{found.what}: {found.verified}{_measured(found)}. {found.runs}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False, na_rep="", float_format="{:.1e}".format)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


@checked
def check(model: Model, *, reference: Any = None) -> HostCheck:
    """Check the assumptions of measurements about a host model with a few short passes.

    Runs check what they need and adapt, so a "no" in most rows costs only time, not exactness. Only two rows say that
    numbers would be wrong: the read-out, and the agreement with a reference. The checks use six tokens (24 for the
    agreement). They do not show what starts only in longer texts, such as a sliding window or another rotary scaling;
    one row lists such layers.

    Args:
        model: any TransformerLens model; it is not changed.
        reference: a Hugging Face model with the same weights that is not inside a bridge, or a
            `semhub_lens.model.agreement.Reference` that was recorded before the model was wrapped. With None,
            agreement is not checked, because the model inside a bridge cannot serve as its own reference.

    Returns:
        The checks as a table: `.findings`, and `.sound`, which is true if no number would be wrong.

    Raises:
        SemhubError: not a TransformerLens model, not a reference, or another run of the model in progress.

    Example:
        >>> found = check(tiny_model)
        >>> [row.what for row in found.findings if row.verified != "yes"]
        ['log-probabilities of a reference']
        >>> found.sound
        True
    """
    require_model(model)
    if reference is not None and not isinstance(reference, Reference):
        reference = reference_of(reference)
    found = [
        _looked("read-out", lambda: _read_out(model)),
        _looked("padding on the right", lambda: _together("padding on the right", checks.right_padding(model))),
        _looked("masked padding on the left", lambda: _continued(model)),
        _looked("key-value cache", lambda: _cached(model)),
        _looked("evaluation mode, two runs agree", lambda: _repeated(model)),
        _raw(model),
        _layers(model),
        *_compared(model, reference),
    ]
    return HostCheck(tuple(found), provenance=provenance_of(model))


def recorded(name: str, dtype: str) -> Reference | None:
    """The reference of the Hugging Face model that `load` uses for this name; None if it reads more than text.

    Raises:
        SemhubError: no such model, or a model that does not load.
    """
    folder, _ = resolve(name)
    source = folder or name
    return None if multimodal(config_of(source)) else reference_of(read(source, DTYPES.get(dtype, torch.float32))[0])


def _looked(what: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Unfit as error:
        return Finding(what, "no", None, None, str(error))


def _measured(found: Finding) -> str:
    if found.figure is None:
        return ""
    return f" ({found.figure:.1e}" + ("" if found.tolerance is None else f", at most {found.tolerance:.1e}") + ")"


def _read_out(model: Model) -> Finding:
    readout = Readout(model)
    config = getattr(getattr(model, "original_model", None), "config", None)
    name = residual_names(model)[-1]
    logits, kept = whole_pass(
        model, plain_ids(config, int(model.cfg.d_vocab), min(5, int(model.cfg.n_ctx)))[None], [name]
    )
    own = logits.float().log_softmax(-1).cpu()
    with torch.no_grad():
        error = float((readout(kept[name]).log_softmax(-1).cpu() - own).abs().max())
    tolerance = (1e-3 if logits.dtype.itemsize >= 4 else 0.1) * max(float(own.std(-1).mean()), 1e-3)
    return Finding("read-out", "yes", error, tolerance, "A lens of the last layer is the model's own output.")


def _of_fact(what: str, fact: checks.Fact, runs: str) -> Finding:
    tolerance = fact.tolerance if math.isfinite(fact.error) else None
    return Finding(what, "yes" if fact.holds else "no", _finite(fact.error), tolerance, runs)


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None


def _together(what: str, fact: checks.Fact) -> Finding:
    return _of_fact(what, fact, TOGETHER[fact.packing])


def _continued(model: Model) -> Finding:
    fact = checks.left_padding(model)
    found = _together("masked padding on the left", fact)
    reason = f" The model says: {fact.reason}" if fact.reason else ""
    return Finding(found.what, found.verified, found.figure, found.tolerance, f"In `generate`: {found.runs}{reason}")


def _cached(model: Model) -> Finding:
    fact = checks.cache(model)
    if fact.holds:
        return _of_fact(
            "key-value cache", fact, "`generate` runs only new tokens, `patch_grid` shares what precedes a patch."
        )
    found = _of_fact("key-value cache", fact, f"Runs read the whole text again at every step. {fact.reason}".rstrip())
    missing = new_cache(model, 1) is None
    return Finding(found.what, "not applicable", None, None, found.runs) if missing else found


def _repeated(model: Model) -> Finding:
    runs = "Runs are in evaluation mode."
    if training_modules(model):
        runs = (
            "The model is in training mode. Runs switch it over while they last; call model.eval() for your own passes."
        )
    return _of_fact("evaluation mode, two runs agree", checks.repeating(model), runs)


def _raw(model: Model) -> Finding:
    processing = weight_processing(model)
    if processing == "none":
        return Finding("raw weights", "yes", None, None, "States are those of the checkpoint; every norm= works.")
    runs = f"Weights are {processing}: norm='none' and 'paper' are refused; states are others than the checkpoint's."
    return Finding("raw weights", "no", None, None, runs)


def _layers(model: Model) -> Finding:
    special = special_layers(model)
    if not special:
        return Finding(PLAIN, "yes", None, None, "No length of a text changes what the checks show.")
    runs = f"{'; '.join(special).capitalize()}. Texts of a few tokens do not show what begins behind them."
    return Finding(PLAIN, "no", None, None, runs)


def special_layers(model: Model) -> list[str]:
    """Layers that behave differently for longer texts, batches or caches, from the configuration."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    if config is None:
        cfg = model.cfg
        local = bool(getattr(cfg, "use_local_attn", False)) and getattr(cfg, "window_size", None)
        scaled = bool(getattr(cfg, "use_NTK_by_parts_rope", False))
        return [
            *([f"sliding window of {local} tokens"] if local else []),
            *(["scaled rotary positions"] if scaled else []),
        ]
    config = config.get_text_config()
    named = (getattr(config, name, None) or () for name in ("layer_types", "attention_layers"))
    kinds = {kind for listed in named for kind in listed if isinstance(kind, str)} - {*EVERYWHERE}
    if not kinds and getattr(config, "use_sliding_window", True) and getattr(config, "sliding_window", None):
        kinds = {"sliding"}  # of models that do not list their layers
    found = []
    for kind, sizes, told in LIMITED:
        if {one for one in kinds if kind in one}:
            found.append(told.format(next(filter(None, (getattr(config, name, None) for name in sizes)), "some")))
    known = (*(kind for kind, _, _ in LIMITED), *RECURRENT_KINDS)
    found += [f"layers of the kind {kind!r}" for kind in sorted(kinds) if not any(one in kind for one in known)]
    scaled = sorted({str(rope["rope_type"]) for rope in rotaries(config)} - {"default"})
    found += [f"rotary scaling {kind!r}" for kind in scaled]
    recurrent = any(one in kind for one in RECURRENT_KINDS for kind in kinds)
    if recurrent or any(getattr(config, name, None) for name in RECURRENT) or config.model_type == "rwkv":
        found.append("layers with a state of their own")
    return found


def _compared(model: Model, reference: Reference | None) -> list[Finding]:
    what = "log-probabilities of a reference"
    if reference is None:
        return [Finding(what, "not verified", None, None, NOT_COMPARED)]
    try:
        found = disagreement(model, reference)
    except Unfit as error:
        return [Finding(what, "no", None, None, str(error))]
    runs = "" if found.holds else "Do not trust numbers of this model: it is another function than its reference."
    same = found.log_probs <= found.tolerance
    rows = [Finding(what, "yes" if same else "no", _finite(found.log_probs), found.tolerance, runs)]
    if not found.states:
        return [*rows, Finding("states of a reference", "not applicable", None, None, "Both keep other states.")]
    worst = max(found.states)
    verified = "yes" if worst <= found.state_tolerance else "no"
    return [*rows, Finding("states of a reference", verified, _finite(worst), found.state_tolerance, runs)]
