"""`range(` steered with " start" - " end": arguments are parsed, items are chosen, and the wiring is by hand."""

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import semhub_lens as shl
from jobs import job_on
from semhub_lens.base.store import Store
from semhub_lens.data.code.arguments import split_arguments
from semhub_lens.data.code.calls import RangePrompt
from semhub_lens.experiments import job, steering_legs
from semhub_lens.experiments.code import steering as code_steering
from semhub_lens.experiments.code.steering import CHANGED, GRADED, OTHER, UNCHANGED, outcomes, range_items, shortened
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.experiments.steering_legs import BEYOND
from semhub_lens.scores import steering_scores
from tests.models import BACKENDS, tiny

WHERE = shl.Provenance("m", "w", "c", "float32", "cpu", "none", True, seed=0)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("n):", ["n"]), ("0, n):\n  x", ["0", "n"]), (" 0 ,\n n )", ["0", "n"]), (")", []), ("n,)", ["n"]),
        ("len(a)):", ["len(a)"]), ("0, len(a[1, 2])), 3)", ["0", "len(a[1, 2])"]),
        ("f({1: 2, 3: 4}))", ["f({1: 2, 3: 4})"]),
        ("len(')'), 1)", ["len(')')", "1"]), ('len("a, b"))', ['len("a, b")']), (r"len('\'),'))", [r"len('\'),')"]),
        ('len("""a"),\n"""), 2)', ['len("""a"),\n""")', "2"]), ("len(''))", ["len('')"]), ('x[""], 1)', ['x[""]', "1"]),
        ("n, # all, )\n m)", ["n", "m"]), ("a, b, c)", ["a", "b", "c"]),
        ("len(a)", None), ("0, n", None), ("", None), ("n]", None), ("f(a]))", None), ("len('a))", None),
        ("'a\n'), 1)", None), ('len("""a), 1)', None), ("n # no end)", None),
    ],
)  # fmt: skip
def test_arguments_are_split_at_commas_outside_brackets_strings_and_comments(text, arguments):
    assert split_arguments(text) == arguments


def test_splitting_agrees_with_pythons_own_parser():
    import ast

    for call in ("0, a.b[1:2, ::3]", "f(x, *y, **{'k': [1, 2]})", '\'it\\\'s, "a"\' + b"(,", -1', "(1, 2), [3, 4]"):
        node = ast.parse(f"range({call})", mode="eval").body
        assert split_arguments(call + ") or more, text(") == [
            ast.get_source_segment(f"range({call})", n) for n in node.args
        ]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("0, n):", CHANGED), ("0,n)", CHANGED), ("n)", UNCHANGED), ("n):\n", UNCHANGED), ("1, n)", OTHER),
        ("0, m)", OTHER), ("0, n, 2)", OTHER), ("0)", OTHER), ("n, 0)", OTHER), ("0, n", OTHER), ("", OTHER),
        (")", OTHER),
    ],
)  # fmt: skip
def test_outcomes_of_a_call_that_was_range_of_n(text, outcome):
    made = shl.Generation(("range(",), (text,), ((1,),), provenance=WHERE)
    assert {name: float(v) for name, v in outcomes(made, ["n"]).items()} == {
        name: float(name == outcome) for name in (CHANGED, UNCHANGED, OTHER)
    }


PIECES = [
    *"abcdefgh",
    *(f"{c})" for c in "abcdefghijkl"),
    ",",
    "(",
    ")",
    "0",
    " start",
    " end",
    " red",
    " blue",
    "range",
    "\n",
]


def code_tokenizer() -> PreTrainedTokenizerFast:
    """A vocabulary in which many tokens close the call, so that a random model writes one argument now and then."""
    listed = {piece: i for i, piece in enumerate(["<unk>", "<bos>", "<eos>", *PIECES])}
    backend = Tokenizer(WordLevel(listed, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"range| ?[a-z]{3,}|[a-l]\)|[^ ]"), "isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>", padding_side="right"
    )
    tokenizer.init_kwargs |= {"name_or_path": "tiny-code", "add_bos_token": True}
    return tokenizer


CANDIDATES = [
    RangePrompt(f"{a}{b}\n{c}range(", "a", f"made:{a}{b}{c}", a == "h")
    for a in "abcdefgh"
    for b in "abgh"
    for c in "adeh"
]


@pytest.fixture(params=BACKENDS[:1])
def coder(request):
    return tiny(request.param, seed=3, tokenizer=code_tokenizer())


@pytest.fixture
def candidates(monkeypatch):
    monkeypatch.setattr(code_steering, "range_prompts", lambda root: CANDIDATES)
    monkeypatch.setattr(code_steering, "STRENGTHS", (0.5, 1.0))
    monkeypatch.setattr(steering_legs, "PAPER_STRENGTHS", (10.0, 40.0))


def run(model, **settings):
    return code_steering.run_steering(job_on(model, 16, seed=1, progress=False, **settings))


def test_items_are_the_prompts_whose_clean_continuation_has_one_argument(coder):
    items, report = range_items(job_on(coder, 20, progress=False), CANDIDATES)
    assert len(items) == 20 and "20 prompts" in report[0]
    for item in items:
        text = shl.generate(coder, item.prompt, max_new_tokens=12, progress=False).texts[0]
        assert split_arguments(text) == [item.default] and item.label.endswith(f"range({item.default})")
    again, _ = range_items(job_on(coder, 20, progress=False), CANDIDATES)
    other, _ = range_items(job_on(coder, 20, seed=5, progress=False), CANDIDATES)
    labels = [[item.label for item in listed] for listed in (items, again, other)]
    assert labels[0] == labels[1] != labels[2]


def test_dropped_prompts_are_counted_and_too_few_are_refused(coder, monkeypatch):
    texts = {"closes": "a)", "two": "a,b)", "open": "ab"}
    kinds = ["closes"] * 15 + ["two"] * 4 + ["open"] * 3

    def planned(self, name, prompts, *, max_new_tokens):
        return [tuple(coder.tokenizer(texts[kinds.pop()], add_special_tokens=False)["input_ids"]) for _ in prompts]

    monkeypatch.setattr(job.Job, "continuations", planned)
    with pytest.raises(ValueError, match=r"after only 15 of 22 .* 4 another number .* 3 no end within 12"):
        range_items(job_on(coder, 16, progress=False), CANDIDATES[:22])
    kinds = ["closes"] * 16 + ["two"] * 4 + ["open"] * 3
    items, report = range_items(job_on(coder, 16, progress=False), CANDIDATES[:23])
    assert len(items) == 16 and "4 another number of arguments, 3 no end" in report[0]


def test_too_small_an_n_is_refused_before_the_model_runs(coder, monkeypatch):
    monkeypatch.setattr(job.Job, "continuations", None)
    with pytest.raises(ValueError, match="at least 16 items"):
        range_items(job_on(coder, 8, progress=False), CANDIDATES)


def test_long_snippets_lose_whole_lines_from_their_start(coder):
    prompt = shortened(coder, "(" * 60 + "\nbbb\nrange(")
    assert prompt is not None and prompt.text == "bbb\nrange("
    assert shortened(coder, "abc\n" + "(" * 60 + "range(") is None


def by_hand(model, item, vector, hook_name):
    """log p("0") after one prompt, with a vector added at its last position by a hook written out."""

    def edit(activation, hook):
        activation = activation.clone()
        activation[:, -1] += vector
        return activation

    with torch.no_grad():
        logits = model.run_with_hooks(item.prompt.ids[None], fwd_hooks=[(hook_name, edit)])[0, -1]
    return float(logits.log_softmax(-1)[model.tokenizer.convert_tokens_to_ids("0")])


@pytest.mark.parametrize("convention", ["corrected", "paper"])
def test_the_direction_is_scaled_to_the_states_or_raw_and_one_block_later(coder, candidates, convention):
    job = job_on(coder, 16, seed=1, progress=False, convention=convention, baseline=False)
    sweep = code_steering.run_steering(job).extras[0]
    items, _ = range_items(job, CANDIDATES)
    start, end = (coder.W_U[:, coder.tokenizer.convert_tokens_to_ids(word)].detach() for word in (" start", " end"))
    states = torch.stack([shl.residual_stream(coder, item.prompt, progress=False)[:, 0] for item in items], 1)
    found = sweep.effect(GRADED) + sweep.clean[sweep.names.index(GRADED)]
    assert sweep.layers == (1, 2)
    for i, layer in enumerate(sweep.layers):
        if convention == "paper":
            vector, provenance = start - end, f"blocks.{layer}.hook_resid_post"
        else:
            length = states[layer].norm(dim=-1).mean()
            vector, provenance = (start - end) / (start - end).norm() * length, f"blocks.{layer}.hook_resid_pre"
        for j, strength in enumerate(sweep.strengths):
            own = [by_hand(coder, items[k], strength * vector, provenance) for k in (0, 9)]
            assert found[i, j, [0, 9]].tolist() == pytest.approx(own, abs=1e-3)


def test_the_zero_is_read_as_next_token_reads_it_and_the_outcomes_add_up(coder, candidates):
    found = run(coder)
    sweep = found.extras[0]
    items, _ = range_items(job_on(coder, 16, seed=1, progress=False), CANDIDATES)
    plain = steering_scores.next_token(coder, [i.prompt for i in items], {"0": "0"}, variants="exact", progress=False)(
        ()
    )
    assert torch.allclose(sweep.clean[sweep.names.index(GRADED)], plain["0"], atol=1e-4)
    rows = [sweep.names.index(name) for name in (CHANGED, UNCHANGED, OTHER)]
    assert torch.equal(sweep.scores[:, :, :, rows].sum(3), torch.ones(5, 2, 2, 16))
    assert sweep.clean[sweep.names.index(UNCHANGED)].all() and not sweep.clean[sweep.names.index(OTHER)].any()
    assert (sweep.effect("KL to clean").mean(-1) > 0).all() and sweep.damage == (OTHER, "KL to clean")
    share, graded = found.legs
    assert [check.name for check in share.checks] == list(BEYOND.values())
    assert [check.name for check in graded.checks] == [*BEYOND.values(), NOT_RANDOM]


def planted(mover):
    """A measure in which the lists of runs that `mover` picks change as predicted, whatever the model does."""

    def made(job, items):
        def measure(hooks):
            moved = bool(hooks) and mover(hooks)
            texts = tuple(f"0, {i.default})" if moved else f"{i.default})" for i in items)
            shares = outcomes(
                shl.Generation(texts, texts, ((1,),) * len(items), provenance=WHERE), [i.default for i in items]
            )
            return shares | {GRADED: torch.full((len(items),), float(moved)) + 0.01 * torch.arange(len(items))}

        return measure

    return made


def towards(model, sign):
    """Whether hooks push a zero state towards `sign` times start - end, before the last layer."""
    rows = shl.direction.unembedding(model, " start", " end")

    def picks(hooks):
        name, edit = hooks[0]
        context = type("Hook", (), {"name": name, "ctx": {}})()
        pushed = edit(torch.zeros(1, 2, len(rows)), hook=context)[0, -1]
        return "resid_pre" in name and float(torch.cosine_similarity(pushed, sign * rows, dim=0)) > 0.99

    return picks


def test_a_planted_change_is_supported_against_every_control_and_a_flipped_one_is_not(coder, candidates, monkeypatch):
    monkeypatch.setattr(code_steering, "_written", planted(towards(coder, 1)))
    share, graded = run(coder, baseline=False).legs
    assert share.verdict.status == graded.verdict.status == "supported" and share.verdict.estimate == 1
    assert all(check.holds for check in share.checks)
    monkeypatch.setattr(code_steering, "_written", planted(towards(coder, -1)))
    share, _ = run(coder, baseline=False).legs
    assert share.verdict.status == "not supported"


def test_a_change_that_any_direction_makes_is_not_supported(coder, candidates, monkeypatch):
    monkeypatch.setattr(code_steering, "_written", planted(lambda hooks: True))
    assert [leg.verdict.status for leg in run(coder, baseline=False).legs] == ["not supported"] * 2


def test_a_killed_run_goes_on_with_the_same_numbers(coder, candidates, tmp_path, monkeypatch):
    whole = run(coder, baseline=False)
    calls = []

    def counted(*given):
        calls.append(given)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return outcomes(*given)

    monkeypatch.setattr(code_steering, "outcomes", counted)
    with pytest.raises(KeyboardInterrupt):
        run(coder, baseline=False, store=Store(tmp_path))
    again = run(coder, baseline=False, store=Store(tmp_path))
    assert torch.equal(again.extras[0].scores, whole.extras[0].scores) and again.notes == whole.notes


def test_a_tokenizer_without_the_words_is_refused(tiny_model):
    with pytest.raises(ValueError, match="' start' is not a single token"):
        run(tiny_model)
