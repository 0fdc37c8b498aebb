"""A small result of every class; a class without one here fails the tests of saved files."""

import tempfile
from pathlib import Path

import torch

import semhub_lens as shl
from semhub_lens.base.rng import generator
from semhub_lens.evidence.legs import LegText, make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.geometry.cosine import CosineTo
from semhub_lens.interventions import metric
from semhub_lens.interventions.concepts import concept_patch
from semhub_lens.interventions.patching import attribution_grid, patch_grid
from semhub_lens.interventions.sweep import Controls, sweep
from semhub_lens.lens.trajectories import trajectories
from semhub_lens.model.facts import provenance_of
from semhub_lens.probes.attached import LinearProbe, train_probe
from semhub_lens.probes.probe import linear_probe
from semhub_lens.probes.transfer import transfer_matrix
from semhub_lens.training.evaluation import SpokeEvaluation
from semhub_lens.training.train import TrainingCurve

TEXT = "three plus two"
QUIET = {"progress": False}


def noise(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float32)


def states(*texts):
    return lambda model: shl.residual_stream(model, list(texts), **QUIET)


def target_result(model):
    return shl.target_lens(model, [TEXT, "red"], [["two", 5]] * 2, **QUIET)


def similarity(model):
    own = states("red dog", "two two", "chat", "three")(model)
    return shl.similarity(own, own.roll(1, 1), seed=0)


def labelled(seed=0):
    return noise(2, 24, 5, seed=seed), ["a", "b"] * 12


def probe_result(model):
    own, labels = labelled()
    return linear_probe(own, labels, test=labelled(1), seed=0)


def transfer_result(model):
    (one, labels), (other, _) = labelled(), labelled(1)
    named = {"words": labels, "digits": labels}
    return transfer_matrix(
        {"words": one, "digits": other}, named, groups={name: list(range(24)) for name in named}, seed=0
    )


def trajectory(model):
    anchors = model.W_U.T[3:7].detach()
    own = states("red dog", "two two")(model)
    return trajectories(own, anchors, anchor_names=[*"abcd"], labels=["1", "2"], provenance=provenance_of(model))


def sweep_result(model):
    def measure(hooks):
        own = shl.residual_stream(model, ["red dog", "two two"], hooks=hooks, **QUIET)[-1]
        return {"first": own[:, 0], "second": own[:, 1]}

    return sweep(
        model, measure, lambda layer: noise(model.cfg.d_model, seed=layer), [1, 2], [0.5, 2.0],
        damage=("second",), controls=Controls(random=1), **QUIET,
    )  # fmt: skip


def concepts(model):
    one, two = (shl.Prompt.from_text(model, f"{word} plus red", spans={"word": word}) for word in ("two", "five"))
    words = [["two", "five"], ["five", "two"]]
    return concept_patch(model, [one, two], [two, one], words, names=("one", "other"), seed=0, **QUIET)


def scoped(model):
    reading = shl.Prompt.from_text(model, "one is one two is", spans={"slot": (11, 14)})
    return shl.patchscope(model, [TEXT, "dog"], ["two", 5], reading=reading, new_tokens=1, **QUIET)


def cosine(model):
    probe = CosineTo(model, states("two", "five")(model), names=["two", "five"])
    model.run_with_hooks(torch.tensor([[1, 4, 5]]), fwd_hooks=probe.hooks)
    return probe.result()


def classifier(model):
    return train_probe(states("two", "five", "two dog", "five dog")(model), ["two", "five"] * 2)


def classes(model):
    probe = LinearProbe(model, classifier(model))
    model.run_with_hooks(torch.tensor([[1, 4, 5]]), fwd_hooks=probe.hooks)
    return probe.result()


def difference(model):
    return metric.logit_difference(model, " two", " five")


def leg_text(title="planted", data_type="languages", kind="similarity", unit="cosine"):
    return LegText(
        title=title,
        data_type=data_type,
        kind=kind,
        claim="a claim",
        control="a control",
        unit=unit,
        curve_unit=unit,
    )


def leg(model):
    effect = noise(3, 24)
    curves = {"raw": effect.mean(1)}
    return make_leg(effect, sign_flips(effect), leg_text(), provenance=provenance_of(model), seed=0, curves=curves)


def experiment(model):
    extras = (trajectory(model), similarity(model))
    return shl.ExperimentResult("test", "a test", (leg(model),), ("a note",), extras, provenance=provenance_of(model))


def saved_report(model, page):
    """A report's page and report.json, without runs, of one leg."""
    from semhub_lens.report.hub_page import HubPage
    from semhub_lens.report.orchestration import Measured
    from semhub_lens.report.record import ReportFiles

    one = leg(model)
    result = shl.ExperimentResult("test", "a test", (one,), (), provenance=one.provenance)
    files = ReportFiles(HubPage(where=one.provenance, size="small"), page, page.with_suffix(""), model)
    files.write(Measured(results=[result], unmeasured={}))
    return page, [result]


def report_comparison(model):
    with tempfile.TemporaryDirectory() as folder:
        made = saved_report(model, Path(folder) / "page.html")
        return shl.compare_reports(made, made)


def curve(model):
    return TrainingCurve(noise(7), {"new_item": ((3, 1.5), (7, 1.0))}, provenance=provenance_of(model))


def evaluation(model):
    named = {"keys": ("1", "2"), "splits": ("train", "new_item"), "styles": ("stamp",) * 2, "concepts": ("a", "b")}
    ranks = torch.tensor([0.0, 3.0], dtype=torch.float32)
    return SpokeEvaluation(
        ranks, ranks + 1, ranks + 2, torch.tensor([True, False]), **named, names=("cat", "朋友"), predicted=("a", "b"),
        languages=("en", "zh"), provenance=provenance_of(model),
    )  # fmt: skip


def translators(model):
    return shl.Translators(
        "test", noise(3, model.cfg.d_model, 2) / 9, noise(3, 2, model.cfg.d_model) / 9, noise(3, model.cfg.d_model),
        torch.tensor([1.0, 0.3, 0.0], dtype=torch.float32), noise(2, 4, 3).abs(), ("en", "en", "zh"), (-1, 0, 7),
        {"rank": 2, "half": False}, provenance=provenance_of(model),
    )  # fmt: skip


SAMPLES = {
    "Leg": leg,
    "ExperimentResult": experiment,
    "ReportComparison": report_comparison,
    "LensResult": lambda model: shl.logit_lens(model, TEXT, top_k=3, **QUIET),
    "AttributionResult": lambda model: shl.direct_attribution(model, TEXT),
    "LensComparison": lambda model: shl.compare(
        *(shl.logit_lens(model, t, **QUIET) for t in (TEXT, "dog")), align="end"
    ),
    "TargetResult": target_result,
    "Generation": lambda model: shl.generate(model, TEXT, max_new_tokens=2, seed=4, **QUIET),
    "HostCheck": lambda model: shl.check(model),
    "ProbeResult": probe_result,
    "TransferResult": transfer_result,
    "SimilarityResult": similarity,
    "TrajectoryResult": trajectory,
    "SweepResult": sweep_result,
    "MassResult": lambda model: shl.language_mass(model, [TEXT, "dog"], shl.script_table(model), **QUIET),
    "ConceptPatchResult": concepts,
    "PatchscopeResult": scoped,
    "CosineResult": cosine,
    "PatchResult": lambda model: patch_grid(model, TEXT, "five plus two", difference(model), **QUIET),
    "ApproximatePatchResult": lambda model: attribution_grid(model, TEXT, "five plus two", difference(model)),
    "LinearClassifier": classifier,
    "ClassResult": classes,
    "SteeringVector": lambda model: shl.SteeringVector.make(model, "test", {1: noise(model.cfg.d_model)}),
    "Translators": translators,
    "TrainingCurve": curve,
    "SpokeEvaluation": evaluation,
}
"""By class; each makes its result from the tiny model."""
