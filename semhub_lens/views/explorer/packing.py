"""A lens's numbers for the page: typed arrays as base64, probabilities to three significant digits."""

import base64
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.shown_text import harmless
from semhub_lens.lens.attribution import AttributionResult
from semhub_lens.lens.comparison import NOTHING, LensComparison
from semhub_lens.lens.language_tables import UNKNOWN
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.explorer.languages import TELLING, kind_of, ordered

DECADES, NAN, ZERO = 71, 65534, 65535
"""A probability's code is 900 times its decade, plus a mantissa of 100 to 999 less 100; two codes are left."""
NAMES = {"entropy": ("entropy", "nats"), "kl_to_final": ("KL to final", "nats")}


def packed(result: LensResult) -> dict[str, Any]:
    """Everything that the page draws, ready for JSON.

    Raises:
        SemhubError: no measured quantity can be shown in a cell.
    """
    measured = result.measured
    per_position = result.per_position()
    if not per_position and not {"top_ids", "top_logprobs"} & measured.keys():
        raise SemhubError(
            f"A lens with only {', '.join(measured)} has nothing to show in a cell: also request "
            'quantities=["top_ids", "top_logprobs"].'
        )
    top = [measured[name] for name in ("top_ids", "top_logprobs") if name in measured]
    layers, positions = next(iter([*top, *per_position.values()])).shape[:2]
    groups = _groups(result)
    return {
        "layers": layers,
        "entries": result.entries,
        "positions": positions,
        "k": top[0].shape[2] if top else 0,
        "labels": [harmless(label) for label in result.labels],
        "ids": [token for token, _ in result.vocabulary],
        "texts": [harmless(text) for _, text in result.vocabulary],
        "top": _places(result, result.top_ids) if "top_ids" in measured else None,
        "prob": base64_of(probability_codes(result.top_logprobs)) if "top_logprobs" in measured else None,
        "curves": _curves(result),
        "quantities": [_quantity(name, values) for name, values in per_position.items()],
        "groups": groups,
        "written": packed_written(result)[0],
        "colour": _first_colour(result, groups),
        "note": harmless(result.provenance.line()),
    }


def packed_pair(comparison: LensComparison) -> dict[str, Any]:
    """Both lenses of a comparison, with a position for every column; the page computes the difference."""
    sides = [packed(side) for side in comparison.sides()]
    for side, name, places in zip(sides, comparison.names, zip(*comparison.columns, strict=True), strict=True):
        side |= {"called": name, "columns": [None if place == NOTHING else place for place in places]}
    return {"sides": sides, "colour": sides[0]["colour"]}


def packed_written(result: LensResult | LensComparison) -> list[list[dict[str, Any]]]:
    """For a lens, or for both lenses of a comparison: the parts of every attributed token's logit, by position."""
    sides = [result] if isinstance(result, LensResult) else result.sides()
    return [[one for found in side.attributions for one in _written(found)] for side in sides]


def base64_of(values: np.ndarray) -> str:
    """The array's bytes, in little-endian order."""
    return base64.b64encode(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()).decode()


def probability_codes(logprobs: Tensor) -> np.ndarray:
    """Sixteen bits per probability, with three significant digits at any size down to 1e-71."""
    p = logprobs.double().exp().numpy()
    positive = p > 10.0**-DECADES
    decade = np.floor(np.log10(np.where(positive, p, 1.0)))
    mantissa = np.rint(np.where(positive, p, 1.0) / 10.0**decade * 100)
    decade, mantissa = np.where(mantissa >= 1000, decade + 1, decade), np.where(mantissa >= 1000, 100, mantissa)
    over = decade > 0  # log-probabilities are rounded: 0 may come as 1e-7
    codes = np.where(over, 0, -decade * 900 + mantissa - 100)
    return np.where(np.isnan(p), NAN, np.where(positive, codes, ZERO)).astype(np.uint16)


def _curves(result: LensResult) -> dict[str, Any] | None:
    """The curves of leading tokens, [pos curve] and [layer pos curve]."""
    ids, logprobs = result.curve_ids, result.curve_logprobs
    if ids is None or logprobs is None:
        return None
    known = torch.where(ids < 0, result.vocabulary[0][0], ids)  # blank by its probability
    return {"width": ids.shape[1], "top": _places(result, known), "prob": base64_of(probability_codes(logprobs))}


def _places(result: LensResult, ids: Tensor) -> str:
    """Each id's place in the vocabulary of the result."""
    known = torch.tensor([token for token, _ in result.vocabulary])
    order = known.argsort()
    places = order[torch.searchsorted(known[order], ids.long().contiguous())]
    return base64_of(places.numpy().astype(np.uint16 if len(known) <= 1 << 16 else np.uint32))


def _quantity(name: str, values: Tensor) -> dict[str, str]:
    label, unit = NAMES.get(name, (name, ""))
    return {"name": name, "label": label, "unit": unit, "values": base64_of(values.float().numpy())}


def _written(found: AttributionResult) -> list[dict[str, Any]]:
    """The parts of every token's logit, with four digits, more than the page shows."""
    parts = {name: getattr(found, name).tolist() for name in ("embedding", "bias", "unexplained", "logits")}
    missing = [note for note in found.provenance.notes if note.startswith("no heads")]
    return [
        {
            "position": found.position,
            "missing": missing,
            "id": token,
            "text": found.texts[i],
            "logit": round(parts["logits"][i], 4),
        }
        | {name: round(parts[name][i], 4) for name in ("embedding", "bias", "unexplained")}
        | {name: [round(v, 4) for v in getattr(found, name)[i].tolist()] for name in ("attention", "mlp")}
        | _heads(found, i)
        for i, token in enumerate(found.token_ids)
    ]


def _heads(found: AttributionResult, token: int) -> dict[str, Any]:
    """The heads of split blocks, if any; None where a block has fewer than another."""
    if found.heads is None or found.beside_heads is None:
        return {}
    rows = [[None if math.isnan(v) else round(v, 4) for v in row] for row in found.heads[token].tolist()]
    beside = [round(v, 4) for v in found.beside_heads[token].tolist()]
    return {"heads": {"blocks": list(found.head_blocks), "values": rows, "beside": beside}}


def _groups(result: LensResult) -> dict[str, Any] | None:
    """Weights of every token over languages if the lens has them, otherwise over scripts; in the order of colours."""
    if not result.vocabulary:
        return None
    kind, (names, weights) = kind_of(result), ordered(result)
    found = {"kind": kind, "names": names, "weights": base64_of((weights * 255).round().numpy().astype(np.uint8))}
    if kind == "language":
        scripts = [name for name in names if name in TELLING]
        found |= {"scripts": scripts, "known": [name for name in result.languages if name != UNKNOWN]}
    return found


def _first_colour(result: LensResult, groups: dict[str, Any] | None) -> str:
    """The first colouring: languages if there are any, else scripts if there are several, else probability."""
    if groups and (groups["kind"] == "language" or len({*groups["names"]} - {UNKNOWN}) > 1):
        return "language"
    return "probability" if "top_logprobs" in result.measured else next(iter(result.per_position()), "stays")
