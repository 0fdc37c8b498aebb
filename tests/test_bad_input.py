"""Bad input is refused with a ValueError that says what was wrong, early where possible; nothing is left behind."""

import inspect
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers

import mistakes
import models
import semhub_lens as shl
from semhub_lens import metric
from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.media import Media
from semhub_lens.inputs.tokens import spellings, target_ids
from semhub_lens.lens.language_tables import LanguageTable
from semhub_lens.model.capture import read_positions
from semhub_lens.model.resolve import as_prompts

QUIET = {"progress": False}
SPANNED = {"ab": "red dog"}


def prompt(model, text="red dog two", spans=SPANNED):
    return shl.Prompt.from_text(model, text, spans=spans)


def nothing(activation, hook):
    return None


def resid(model, prompts, **settings):
    return shl.residual_stream(model, prompts, progress=False, **settings)


def lens(model, text, **settings):
    return shl.logit_lens(model, text, progress=False, **settings)


def target(model, prompts, targets, **settings):
    return shl.target_lens(model, prompts, targets, progress=False, **settings)


# name -> (call, what the message must say, whether the model must not have run at all)
BAD = {
    "no prompts": (lambda m: resid(m, []), "list of prompts is empty", True),
    "empty text": (lambda m: resid(m, ["red", ""]), "text is empty", True),
    "blank text": (lambda m: lens(m, " \n"), "text is empty", True),
    "foreign id": (lambda m: resid(m, shl.Prompt.from_ids([1, 69])), r"id 69 .*vocabulary of 69", True),
    "position past the end": (lambda m: resid(m, "red dog", read=3), r"Position 3 .*'red dog' has 3 tokens", True),
    "negative position": (lambda m: resid(m, "red dog", read=-4), "Position -4 is past the end", True),
    "unknown span": (lambda m: resid(m, prompt(m), read="bc"), r"no span 'bc'; it has \['ab'\]", True),
    "unknown span's last": (lambda m: resid(m, prompt(m), read="bc:last"), "no span 'bc'", True),
    "span of one prompt only": (lambda m: resid(m, [prompt(m), "red"], read="ab"), "'red' has no span 'ab'", True),
    "unknown hook": (lambda m: resid(m, "red", hooks=[("blocks.9.hook_resid_pre", nothing)]), "it has 3 blocks", True),
    "edit past the end": (
        lambda m: resid(m, "red", hooks=shl.at(2, shl.hooks.add(torch.ones(32), positions=5))),
        "Position 5 is past the end",
        True,
    ),
    "no top": (lambda m: lens(m, "red", top_k=0), r"top_k must be between 1 and .*69, got 0", False),
    "top beyond": (lambda m: shl.LogitLens(m, top_k=70), r"top_k must be between 1 and .*69, got 70", False),
    "norm twice": (lambda m: lens(m, "red", norm="none", readout=shl.Readout(m)), "not both", False),
    "unknown target": (lambda m: target(m, ["red"], ["banana"]), "'banana' is not a single token", True),
    "target of pieces": (lambda m: target(m, ["red"], ["red house"]), r"not a single token .*first_token=True", True),
    "empty target": (lambda m: target(m, ["red"], [""]), "must not be empty", True),
    "empty target set": (lambda m: target(m, ["red"], [[[]]]), "target set is empty", True),
    "no target": (lambda m: target(m, ["red"], [[]]), "at least one", True),
    "too few targets": (lambda m: target(m, ["red", "dog"], ["two"]), "2 positions are read, got 1", True),
    "one string of targets": (lambda m: target(m, ["red", "dog"], "two"), "takes a list .*got 'two'", True),
    "ragged targets": (lambda m: target(m, ["red", "dog"], [["two"], ["two", "one"]]), r"same number.*1, 2", True),
    "foreign target": (lambda m: target(m, ["red"], [69]), r"Target token id 69 is outside .*69", True),
    "negative target": (lambda m: target(m, ["red"], [-1]), r"Target token id -1 is outside .*69", True),
    "lens over a wide span": (lambda m: target(m, prompt(m), ["two"], read_at="ab"), "means 2 positions", True),
    "lens past the end": (lambda m: target(m, ["red"], ["two"], read_at=[[2]]), "Position 2 is past the end", True),
    "too many lists": (lambda m: target(m, ["red"], ["two"] * 2, read_at=[[0], [1]]), "each of 1 prompts, got 2", True),
    "another model's table": (
        lambda m: shl.language_mass(m, "red", LanguageTable(("en",), torch.ones(5, 1), "small")),
        r"covers 5 tokens, .*vocabulary has 69",
        False,
    ),
    "unknown language": (lambda m: shl.language_table(m, ["en", "xx"]), r"No word frequencies for \['xx'\]", True),
    "no language": (lambda m: shl.language_table(m, []), "an empty list", True),
    "no words": (lambda m: shl.language_table(m, ["en"], words=0), "words", True),
    "layer beyond": (lambda m: shl.Capture(m, layers=[4]), r"Layer 4 is out of range.*layers 0 to 3", True),
    "negative layer": (lambda m: shl.Capture(m, layers=[-1]), "Layer -1 is out of range", True),
    "block beyond": (lambda m: shl.Capture(m, layers=[3], site="mlp_out"), "layers 0 to 2", True),
    "unknown site": (lambda m: shl.Capture(m, site="resid_out"), "Unknown site 'resid_out'; expected one of", True),
    "probe before a run": (lambda m: shl.Capture(m).result(), "seen no run yet", True),
    "lens probe before a run": (lambda m: shl.LogitLens(m).result(), "seen no run yet", False),
}  # fmt: skip


def call_bad(model, name):
    """Run one of the bad calls; returns whether the model ran."""
    call, message, _ = BAD[name]
    ran = []
    handle = next(iter(model.blocks)).register_forward_pre_hook(lambda module, args: ran.append(1))
    try:
        with pytest.raises(ValueError, match=rf"(?s){message}"):
            call(model)
    finally:
        handle.remove()
    return bool(ran)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_early_and_leaves_nothing(tiny_model, name, monkeypatch, tmp_path):
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path))
    before = tiny_model(torch.tensor([[1, 4, 5]]))
    ran = call_bad(tiny_model, name)
    assert not (ran and BAD[name][2]), "it can be told without running the model"
    assert not any(point.fwd_hooks or point.ctx for point in tiny_model.hook_dict.values())
    assert torch.equal(tiny_model(torch.tensor([[1, 4, 5]])), before)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("make", [shl.Readout, shl.LogitLens, shl.Capture, shl.script_table,
    lambda m: resid(m, "red"), lambda m: lens(m, "red")])  # fmt: skip
def test_a_bare_hugging_face_model_is_refused_with_the_way_to_wrap_it(make):
    with pytest.raises(ValueError, match=r"got LlamaForCausalLM.*TransformerBridge\.boot_transformers"):
        make(models.tiny_llama())


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_without_a_tokenizer_words_are_refused_but_ids_work(backend):
    model = models.tiny(backend)
    model.tokenizer = None
    ids = shl.Prompt.from_ids([1, 4, 9])
    assert target(model, ids, [5]).log_probs.shape == (4, 1, 1)
    assert lens(model, ids).labels == ("1", "4", "9")
    with pytest.raises(ValueError, match="no tokenizer"):
        lens(model, "red")
    for build in (shl.script_table, lambda m: shl.language_table(m, ["en"], **QUIET)):
        with pytest.raises(ValueError, match="no tokenizer"):
            build(model)
    with pytest.raises(ValueError, match="no tokenizer"):
        target(model, ids, ["two"])


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_tokenizer_with_more_tokens_than_the_model_has_rows(backend):
    """What the model has is read; what it lacks is refused by its id, before it runs."""
    tokenizer = models.tiny_tokenizer()
    model = models.tiny(backend, hf=models.tiny_llama(vocabulary=40), tokenizer=tokenizer)
    outside = tokenizer.convert_tokens_to_ids("▁dog")
    assert int(model.W_U.shape[1]) == 40 <= outside < len(tokenizer)
    found = lens(model, "red")
    assert found.top_ids.max() < 40 and len(found.labels) == 2
    assert shl.script_table(model).weights.shape[0] == 40
    assert shl.language_table(model, ["en"], words=9, **QUIET).weights.shape[0] == 40
    handle = next(iter(model.blocks)).register_forward_pre_hook(lambda *_: pytest.fail("the model ran"))
    for call in (
        lambda: lens(model, "red dog"),
        lambda: resid(model, ["red", "red dog"]),
        lambda: shl.generate(model, "red dog", **QUIET),
        lambda: shl.kl_to_clean(model, "red dog", [], **QUIET),
        lambda: target(model, ["red"], [outside]),
        lambda: metric.log_prob(model, " dog"),
        lambda: shl.direction.unembedding(model, " dog"),
        lambda: shl.continuation_perplexity(model, ["red"], [" dog"], **QUIET),
    ):
        with pytest.raises(SemhubError, match=rf"(?i)token (id )?{outside} is outside"):
            call()
    handle.remove()


def test_an_encoder_is_read_but_asked_for_no_next_word():
    model, ids = models.host("bert"), shl.Prompt.from_ids([5, 6, 7])
    assert resid(model, ids).isfinite().all()
    for call in (
        lambda: lens(model, ids),
        lambda: target(model, [ids], [5]),
        lambda: shl.generate(model, ids, **QUIET),
        lambda: shl.patch_grid(model, ids, ids, metric.log_prob(model, 5), **QUIET),
        lambda: shl.direct_attribution(model, ids),
        lambda: shl.LogitLens(model),
    ):
        with pytest.raises(Unfit, match=r"does not reproduce this model's own log-probabilities|norm their output"):
            call()


@pytest.mark.skipif(not models.HOOKED_LINE, reason="a bridge runs past the context if the model's positions allow it")
def test_a_prompt_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="64"):
        resid(models.tiny("hooked"), shl.Prompt.from_ids([1] + [4] * 64))


def test_states_that_are_not_finite_are_refused_with_their_place(tiny_model):
    def spoil(activation, hook):
        out = activation.clone()
        out[:, -1, 0] = float("inf")
        return out

    table, hooks = shl.script_table(tiny_model), [("blocks.1.hook_resid_pre", spoil)]
    for call in (
        lambda: resid(tiny_model, ["red", "dog two"], hooks=hooks),
        lambda: lens(tiny_model, "red", hooks=hooks),
        lambda: target(tiny_model, ["red"], ["two"], hooks=hooks),
        lambda: shl.language_mass(tiny_model, ["red"], table, hooks=hooks, **QUIET),
    ):
        with pytest.raises(ValueError, match=r"NaN or infinite entries, the first at \[1,"):
            call()


def test_rows_and_tokens_that_the_run_did_not_have_are_refused(tiny_model):
    probe, lens = shl.Capture(tiny_model), shl.LogitLens(tiny_model)
    tiny_model.run_with_hooks(torch.tensor([[1, 4], [1, 5]]), fwd_hooks=probe.hooks + lens.hooks)
    for row in (2, -1):
        with pytest.raises(ValueError, match=f"Row {row} is out of range: the run had 2 rows"):
            probe.result(row)
    with pytest.raises(ValueError, match="had 2 positions, but 3 tokens were given"):
        lens.result(tokens=torch.tensor([1, 4, 5]))


def table_of(words=50):
    tokenizer = models.tiny_tokenizer()
    model = SimpleNamespace(tokenizer=tokenizer, cfg=SimpleNamespace(d_vocab=len(tokenizer)))
    return shl.language_table(model, ["en"], words=words, **QUIET)


def test_an_unwritable_cache_is_named_by_the_language_table(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot be written.*SEMHUB_CACHE"):
        table_of()


def test_a_damaged_table_in_the_cache_is_built_again(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path))
    expected = table_of().weights
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    assert torch.equal(table_of().weights, expected)
    kept = load_file(path)
    save_file({"posterior": kept["posterior"].roll(1, 0)}, path)
    assert torch.equal(table_of().weights, expected)


def test_tokenizers_with_one_vocabulary_that_split_words_differently_have_their_own_tables(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path))
    tables = []
    for scheme in ("never", "always", "never"):
        tokenizer = models.tiny_tokenizer()
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        tables.append(shl.language_table(models.tiny(tokenizer=tokenizer), ["en"], words=50, **QUIET).weights)
    assert torch.equal(tables[0], tables[2]) and not torch.equal(tables[0], tables[1])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


# what a type annotation excludes; the tests check annotations, users do not, so these go past that check
MISTYPED = {
    "several prompts for one lens": (
        lambda m: free(shl.logit_lens)(m, ["red", "dog"], **QUIET),
        "takes one prompt, got 2",
    ),
    "norm": (
        lambda m: free(shl.Readout.__init__)(object.__new__(shl.Readout), m, norm="layer"),
        "Unknown norm 'layer'",
    ),
    "dtype of a read-out": (
        lambda m: free(shl.Readout.__init__)(object.__new__(shl.Readout), m, dtype="float16"),
        "Unknown dtype 'float16'",
    ),
    "variants": (lambda m: free(spellings)("two", "any"), "Unknown variants rule 'any'"),
    "unknown": (lambda m: free(shl.language_table)(m, ["en"], words=9, unknown="even", **QUIET), "'even'"),
    "prompt": (lambda m: free(as_prompts)(m, ["red", 5]), "got int: 5"),
    "no prompt": (lambda m: free(as_prompts)(m, None), "NoneType"),
    "read": (lambda m: free(read_positions)(prompt(m), 1.5), "1.5"),
    "target": (lambda m: free(target_ids)(m.tokenizer, 2.5), "2.5"),
    "backend": (
        lambda m: free(shl.load)("gemma-3-270m", backend="nnsight"),
        "Unknown backend 'nnsight'; expected 'auto'",
    ),
    "dtype": (lambda m: shl.load("gemma-3-270m", dtype="float8"), "Unknown dtype 'float8'; expected one of float32"),
}


def free(function):
    """The function without the checks of annotations that the test suite adds."""
    return inspect.unwrap(function)


@pytest.mark.parametrize("name", MISTYPED)
def test_what_is_of_the_wrong_kind_is_refused_with_its_value(name, monkeypatch, tmp_path):
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path))
    call, message = MISTYPED[name]
    with pytest.raises(ValueError, match=message):
        call(models.tiny("bridge"))
    assert not list(tmp_path.rglob("*.safetensors"))


def saved(folder):
    models.tiny_llama().save_pretrained(folder)
    models.tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_device_that_is_not_there_is_named(tmp_path, backend):
    with pytest.raises(ValueError, match="banana"):
        shl.load(saved(tmp_path / "m"), backend=backend, device="banana")


@pytest.mark.parametrize("spoil", ["no config", "bad config", "no weights", "cut weights", "no tokenizer"])
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_an_incomplete_folder_is_refused_by_its_name(tmp_path, backend, spoil):
    folder = saved(tmp_path / "m")
    name = {"config": "config.json", "weights": "model.safetensors", "tokenizer": "tokenizer.json"}[spoil.split()[1]]
    if spoil.startswith("no"):
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:-60])
    with pytest.raises(ValueError, match=str(folder)):
        shl.load(folder, backend=backend)


def test_a_missing_gguf_file_and_a_name_that_no_hub_has_are_refused(tmp_path):
    with pytest.raises(ValueError, match="No GGUF file at"):
        shl.load(tmp_path / "nothing.gguf")
    for backend in models.BACKENDS:
        with pytest.raises(ValueError, match="Unknown model 'no-such-org/no-such-model'"):
            shl.load("no-such-org/no-such-model", backend=backend)


@pytest.mark.parametrize("name", mistakes.LEAKS)
def test_no_error_of_another_library_leaks(name, unchecked):
    call, message = mistakes.LEAKS[name]
    said = mistakes.outcome(call, models.tiny("bridge"))
    assert re.search(rf"(?s){message}", said) and "LEAKED" not in said


def steered(model, edits):
    return resid(model, ["red dog", "two two"], hooks=edits)


# what this model cannot, and another may
UNFIT = {
    "no tokenizer": lambda m: lens(SimpleNamespace(tokenizer=None, cfg=m.cfg, run_with_hooks=print), "red"),
    "a word of pieces": lambda m: metric.logit_difference(m, "banana", "two"),
    "a prompt too long": lambda m: shl.generate(m, "red", max_new_tokens=99, **QUIET),
    "a hook point that it lacks": lambda m: steered(m, [("blocks.9.hook_resid_pre", nothing)]),
    "pictures": lambda m: resid(m, shl.Prompt.from_ids([1, 4], media=Media({"pixel_values": torch.zeros(1, 3, 4, 4)}))),
    "too few items": lambda m: sample(5, 40, seed=0),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_a_model_cannot_is_told_from_what_a_user_can_mend(name):
    with pytest.raises(Unfit):
        UNFIT[name](models.tiny("bridge"))
    with pytest.raises(SemhubError) as refused:
        sample(40, 5, seed=0)
    assert not isinstance(refused.value, Unfit)


def test_the_command_line_keeps_the_traceback_of_a_bug(monkeypatch, capsys):
    from semhub_lens.cli import main as command

    for error, caught in (
        (SemhubError("mend it"), SystemExit),
        (ValueError("a bug"), ValueError),
        (KeyError("k"), KeyError),
    ):

        def app(error=error):
            raise error

        monkeypatch.setattr(command, "app", app)
        monkeypatch.setattr(command, "keep_freed_memory", lambda: True)
        with pytest.raises(caught):
            command.main()
    assert "semhub: mend it" in capsys.readouterr().out


def test_only_a_missing_package_makes_a_spoke_unavailable(tiny_model, monkeypatch):
    from semhub_lens.base.errors import Missing
    from semhub_lens.spokes import spoke

    cards = {name: spoke.load_projector(spoke._folder() / f"{name}.safetensors")[1] for name in spoke.available()}
    monkeypatch.setattr(spoke, "unembedding_hash", lambda model: next(iter(cards.values())).weights)
    for error, outcome in ((Missing("install it"), None), (SemhubError("corrupted"), SemhubError)):

        def load(name, model, error=error):
            raise error

        monkeypatch.setattr(spoke, "load", load)
        if outcome is None:
            assert spoke.fitting(tiny_model) == ({}, {"image": "install it", "audio": "install it"})
        else:
            with pytest.raises(SemhubError, match="corrupted"):
                spoke.fitting(tiny_model)
