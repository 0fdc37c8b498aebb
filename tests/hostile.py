"""Text that would do something where it is shown, and results that hold it in every place."""

from dataclasses import replace

import torch

import samples
import semhub_lens as shl
from semhub_lens.base.rng import generator
from semhub_lens.lens.trajectories import trajectories

MARKUP = '<img src=x onerror="document.documentElement.dataset.owned=1"></script><b>bold</b>&lt;'
LINK = '<a href="javascript:document.documentElement.dataset.owned=1">link</a>'
CONTROLS = "\x1b[2J\x1b]8;;http://x.invalid\x1b\\\x07\r\b\x9b31m\u202e\u2066\u2028"
FIELDS = "%{x} $x$ {{ 7*7 }} [bold]"
HOSTILE = f"{MARKUP}{LINK}{CONTROLS}{FIELDS}\ud800"
RAW = [*"\x1b\x07\r\b\x9b\u202e\u2066\u2028\ud800"]
"""Characters that reach neither a page nor a terminal."""


def results(model, text=HOSTILE):
    """Results with the text for every token, label, name, title, unit, note and model."""
    made = {name: samples.SAMPLES[name](model) for name in ("Generation", "PatchResult", "CosineResult", "ClassResult")}
    where = replace(made["Generation"].provenance, model=text, data=text, dtype=text, notes=(text,))
    yield replace(made["Generation"], prompts=(text,), texts=(text,), provenance=where)
    labels = (text,) * len(made["PatchResult"].labels)
    yield replace(made["PatchResult"], labels=labels, clean_labels=(f"{text} 2",) * len(labels), metric=text)
    yield replace(made["CosineResult"], names=(text, f"{text} 2"), provenance=where)
    yield replace(made["ClassResult"], classes=(text, f"{text} 2"), provenance=where)
    yield experiment(model, text)
    yield replace(samples.target_result(model), names=((text, "b"),) * 2)
    own = torch.randn(4, 3, 8, generator=generator(0))
    yield trajectories(own, own[0], anchor_names=[text, "b", "c"], labels=[text, "b", "c"], provenance=where)
    yield shl.SteeringVector.make(model, text, {1: torch.ones(model.cfg.d_model)})


def experiment(model, text=HOSTILE):
    """An experiment whose words are all the text."""
    result = samples.experiment(model)
    leg = result.legs[0]
    words = dict.fromkeys(("title", "data_type", "kind", "claim", "control", "unit", "curve_unit"), text)
    where = replace(result.provenance, model=text, data=text)
    leg = replace(
        leg, wording=replace(leg.wording, **words), curve_names=(text,), labels=(text,) * 24, provenance=where
    )
    return replace(result, id=text, title=text, legs=(leg,), notes=(text,), extras=(), provenance=where)


def lens(model, text=HOSTILE):
    """A lens on tokens that are called so."""
    result = shl.logit_lens(model, "three plus two", top_k=2, progress=False)
    ids = result.top_ids.flatten().tolist()
    return replace(
        result,
        labels=(text,) * len(result.labels),
        vocabulary=tuple((i, text) for i in dict.fromkeys(ids)),
        provenance=replace(result.provenance, model=text),
    )
