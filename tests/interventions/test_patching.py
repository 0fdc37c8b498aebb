"""Grids of activation patching against TransformerLens' own patching, one cell at a time."""

import pytest
import torch
from jaxtyping import TypeCheckError
from transformer_lens import patching as peer

import models
import semhub_lens as shl
from semhub_lens import Prompt, at
from semhub_lens.interventions.grid import Cell, passes
from semhub_lens.model.hooking import site_name

CLEAN = Prompt.from_ids([1, 10, 31, 12, 40, 22, 17])
CORRUPTED = Prompt.from_ids([1, 10, 44, 12, 40, 35, 17])
SITES = ("resid_pre", "resid_mid", "attn_out", "mlp_out")
RIGHT, WRONG = 20, 33
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def difference(logits):
    return logits[:, RIGHT] - logits[:, WRONG]


def at_last(logits):
    return difference(logits[:, -1])[0]


def with_cache(model):
    """The clean run's activations, cloned, by hook name."""
    wanted = [site_name(layer, site) for layer in range(3) for site in (*SITES, "z")]
    kept = {}

    def keeper(name):
        def keep(activation, hook):
            kept[name] = activation.clone()

        return keep

    with torch.no_grad():
        model.run_with_hooks(CLEAN.ids[None], fwd_hooks=[(name, keeper(name)) for name in wanted])
    return kept


def by_peer(model, name):
    with torch.no_grad():
        return getattr(peer, f"get_act_patch_{name}")(model, CORRUPTED.ids[None], with_cache(model), at_last)


def grid(model, metric=difference, clean=CLEAN, corrupted=CORRUPTED, **settings):
    return shl.patch_grid(model, clean, corrupted, metric, progress=False, **settings)


def one_cell(model, clean, corrupted, site, layer, source, target, read=-1):
    """Logits of one patched run, made with the ordinary hooks."""
    kept = []
    with torch.no_grad():
        model.run_with_hooks(
            clean.ids[None], fwd_hooks=[(site_name(layer, site), lambda a, hook: kept.append(a.clone()))]
        )
        fn = shl.hooks.patch(kept[0][0, source][None], positions=[target])
        return model.run_with_hooks(corrupted.ids[None], fwd_hooks=at(layer, fn, site))[:, read]


@pytest.mark.parametrize("max_tokens", [1, 40, 1024])
@pytest.mark.parametrize("site", SITES)
def test_every_cell_equals_transformer_lens(tiny_model, site, max_tokens):
    found = grid(tiny_model, site=site, max_tokens=max_tokens)
    torch.testing.assert_close(found.values, by_peer(tiny_model, site).cpu(), **CLOSE)
    assert found.effect[:, 2:].abs().max() > 0.01


@pytest.mark.parametrize("max_tokens", [1, 60, 150, 1024])
def test_passes_take_every_cell_once_and_keep_the_cells_of_a_position_together(max_tokens):
    cells = [Cell(layer, ((pos, pos),)) for layer in range(6) for pos in range(1, 10)]
    made = list(passes(cells, 10, max_tokens, skip=True))
    assert sorted(i for _, chosen in made for i in chosen) == list(range(len(cells)))
    for start, chosen in made:
        assert len(chosen) == 1 or (len(chosen) + 1) * (10 - start) <= max_tokens
        assert start == min(cells[i].start for i in chosen)
        assert [cells[i].layer for i in chosen] == sorted(cells[i].layer for i in chosen)
    per_position = [
        len({start for start, chosen in made if any(cells[i].start == pos for i in chosen)}) for pos in range(1, 10)
    ]
    if max_tokens >= 150:  # a pass of nine columns has room for two positions of six layers
        assert per_position == [1] * 9


@pytest.mark.parametrize("max_tokens", [1, 40, 1024])
def test_every_head_equals_transformer_lens(tiny_model, max_tokens):
    by_position = grid(tiny_model, site="z", max_tokens=max_tokens)
    torch.testing.assert_close(by_position.values, by_peer(tiny_model, "attn_head_out_by_pos").cpu(), **CLOSE)
    everywhere = grid(tiny_model, site="z", all_positions=True, max_tokens=max_tokens)
    torch.testing.assert_close(everywhere.values, by_peer(tiny_model, "attn_head_out_all_pos").cpu(), **CLOSE)
    assert everywhere.effect.abs().max() > 0.01


def test_all_metrics_equal_their_definitions_on_the_models_own_logits(tiny_model):
    with torch.no_grad():
        own = [tiny_model(p.ids[None])[0, -1].float() for p in (CLEAN, CORRUPTED)]
    logs = [logits.log_softmax(-1) for logits in own]
    divergence = (logs[0].exp() * (logs[0] - logs[1])).sum()
    wanted = {
        shl.metric.logit_difference(tiny_model, RIGHT, WRONG): [z[RIGHT] - z[WRONG] for z in own],
        shl.metric.logit_difference(tiny_model, [RIGHT, 5], WRONG): [
            z[[RIGHT, 5]].logsumexp(0) - z[WRONG] for z in own
        ],
        shl.metric.log_prob(tiny_model, RIGHT): [z[RIGHT] for z in logs],
        shl.metric.log_prob(tiny_model, [RIGHT, 5]): [z[[RIGHT, 5]].logsumexp(0) for z in logs],
        shl.metric.kl(tiny_model, CLEAN): [torch.tensor(0.0), divergence],
        difference: [difference(z[None])[0] for z in own],
    }
    for metric, (clean, corrupted) in wanted.items():
        found = grid(tiny_model, metric)
        assert (found.clean, found.corrupted) == pytest.approx((clean.item(), corrupted.item()), abs=1e-4)
        assert metric(own[1][None]).item() == pytest.approx(corrupted.item(), abs=1e-5)


def test_a_metric_of_few_logits_gives_the_grid_of_the_function_of_all_logits(tiny_model):
    named = shl.metric.logit_difference(tiny_model, RIGHT, WRONG)
    torch.testing.assert_close(grid(tiny_model, named).values, grid(tiny_model, difference).values, **CLOSE)


def test_the_normalised_effect_is_one_where_the_patch_restores_the_clean_run(tiny_model):
    """At layer 0 a state is its token; the last block's output at the read position decides alone."""
    corrupted = Prompt.from_ids([*CLEAN.ids[:-1].tolist(), 45])
    found = grid(tiny_model, corrupted=corrupted)
    torch.testing.assert_close(found.normalised[:, -1], torch.ones(3), **CLOSE)
    assert torch.equal(found.effect[:, :-1], torch.zeros(3, len(CLEAN) - 1))


def test_identical_prompts_have_no_effect_and_an_undefined_normalised_one(tiny_model):
    found = grid(tiny_model, corrupted=CLEAN)
    assert torch.equal(found.effect, torch.zeros(3, len(CLEAN))) and torch.isnan(found.normalised).all()


def test_positions_before_the_first_difference_are_the_corrupted_run(tiny_model):
    found = grid(tiny_model)
    assert torch.equal(found.values[:, :2], torch.full((3, 2), found.corrupted))


def test_prompts_of_unequal_length_are_patched_pair_by_pair(tiny_model):
    corrupted = Prompt.from_ids([1, 44, 10, 44, 12, 40, 35, 17, 9])
    pairs = [(1, 2), (2, 3), (2, 5), (-1, -2), (0, 8)]
    found = grid(tiny_model, corrupted=corrupted, positions=pairs, site="attn_out")
    assert found.positions == ((1, 2), (2, 3), (2, 5), (6, 7), (0, 8))
    for layer in range(3):
        for i, (source, target) in enumerate(found.positions):
            alone = difference(one_cell(tiny_model, CLEAN, corrupted, "attn_out", layer, source, target))
            assert found.values[layer, i].item() == pytest.approx(alone.item(), abs=1e-4)


def test_the_metric_reads_where_it_is_told(tiny_model):
    found = grid(tiny_model, read=4)
    for layer, target in [(0, 2), (1, 2), (2, 4), (1, 3)]:
        alone = difference(one_cell(tiny_model, CLEAN, CORRUPTED, "resid_pre", layer, target, target, read=4))
        assert found.values[layer, target].item() == pytest.approx(alone.item(), abs=1e-4)
    assert torch.equal(found.effect[:, 5:], torch.zeros(3, 2))  # what comes later cannot reach it
    spans = [Prompt(p.ids, {"noun": (4,)}) for p in (CLEAN, CORRUPTED)]
    named = grid(tiny_model, clean=spans[0], corrupted=spans[1], read="noun:last")
    assert torch.equal(named.values, found.values)


def test_the_approximation_is_the_derivative_along_the_patch(tiny_model):
    """Central differences of the metric at a small patch strength."""
    for site in (*SITES, "z"):
        found = shl.attribution_grid(tiny_model, CLEAN, CORRUPTED, difference, site=site)
        assert (found.clean, found.corrupted) == pytest.approx(
            (grid(tiny_model).clean, grid(tiny_model).corrupted), rel=1e-5
        )
        clean = with_cache(tiny_model)
        for layer, target in [(0, 2), (1, 5), (2, 6)]:
            source = clean[site_name(layer, site)][0]
            step = 1e-2
            moved = [small_patch(tiny_model, site, layer, source, target, sign * step) for sign in (1, -1)]
            slope = (moved[0] - moved[1]) / (2 * step)
            effect = found.effect[layer, target].sum().item()
            assert effect == pytest.approx(slope, abs=0.02 * max(1, abs(slope)))


def small_patch(model, site, layer, source, target, strength):
    def nudge(activation, hook):
        out = activation.clone()
        out[0, target] += strength * (source[target] - out[0, target])
        return activation.copy_(out) if site == "resid_mid" else out

    with torch.no_grad():
        return at_last(model.run_with_hooks(CORRUPTED.ids[None], fwd_hooks=[(site_name(layer, site), nudge)])).item()


def test_the_sum_of_heads_approximates_like_their_pairs(tiny_model):
    by_position = shl.attribution_grid(tiny_model, CLEAN, CORRUPTED, difference, site="z")
    everywhere = shl.attribution_grid(tiny_model, CLEAN, CORRUPTED, difference, site="z", all_positions=True)
    assert everywhere.axes == ("layer", "head")
    torch.testing.assert_close(everywhere.effect, by_position.effect.sum(1), **CLOSE)
    whole = shl.attribution_grid(tiny_model, CLEAN, CORRUPTED, difference, site="attn_out")
    torch.testing.assert_close(by_position.effect.sum(2), whole.effect, **CLOSE)  # z to attn_out is linear


def test_frozen_weights_give_the_same_gradient():
    model = models.tiny()
    expected = shl.attribution_grid(model, CLEAN, CORRUPTED, difference)
    model.requires_grad_(False)
    found = shl.attribution_grid(model, CLEAN, CORRUPTED, difference)
    torch.testing.assert_close(found.values, expected.values, **CLOSE)


def test_the_table_lists_every_cell_with_its_tokens(tiny_model):
    found = shl.patch_grid(
        tiny_model, "three plus two", "four plus one", shl.metric.log_prob(tiny_model, " two"), progress=False
    )
    table = found.to_frame()
    row = table[(table.layer == 2) & (table.pos == 1)].iloc[0]
    assert (row.token, row.clean_token) == ("four", "three")
    assert row.effect == pytest.approx(found.effect[2, 1].item()) and len(table) == found.values.numel()
    heads = grid(tiny_model, site="z").to_frame()
    assert list(heads.columns[:3]) == ["layer", "pos", "head"]


def test_a_result_survives_its_file(tiny_model, tmp_path):
    for found in (grid(tiny_model), shl.attribution_grid(tiny_model, CLEAN, CORRUPTED, difference)):
        kept = type(found).load(found.save(tmp_path / "grid.safetensors"))
        assert torch.equal(kept.values, found.values) and kept.positions == found.positions
        assert (kept.clean, kept.corrupted, kept.axes) == (found.clean, found.corrupted, found.axes)


def test_the_heat_map_shows_the_normalised_effect_and_the_tokens(tiny_model):
    found = shl.patch_grid(tiny_model, "three plus two", "<b>bold</b> plus two", difference, progress=False)
    figure = shl.figure(found)
    assert torch.allclose(torch.tensor(figure.data[0].z), found.normalised)
    assert (
        figure.layout.xaxis.ticktext[1] == "&lt;b&gt;bold&lt;/…<br>three" and figure.layout.xaxis.ticktext[2] == "␣plus"
    )
    assert f"{found.values[1, 2]:.4g}" in figure.data[0].customdata[1][2]
    approximate = shl.figure(shl.attribution_grid(tiny_model, "three plus two", "four plus two", difference))
    assert "gradient approximation" in approximate.layout.title.text
    assert "approximation" not in figure.layout.title.text


def test_the_heat_map_of_heads_has_a_button_for_each(tiny_model):
    found = grid(tiny_model, site="z")
    buttons = shl.figure(found).layout.updatemenus[0].buttons
    assert [b.label for b in buttons] == [f"head {i}" for i in range(4)]
    assert torch.allclose(torch.tensor(buttons[2].args[0]["z"][0]), found.normalised[..., 2])
    everywhere = shl.figure(grid(tiny_model, site="z", all_positions=True))
    assert list(everywhere.layout.xaxis.ticktext) == ["0", "1", "2", "3"]


SHORT = Prompt.from_ids([1, 10, 31])
BAD = {
    "unequal lengths": ({"clean": SHORT}, "3 and 7 tokens"),
    "unknown site": ({"site": "resid"}, "Unknown site 'resid'"),
    "resid_post is no site of a patch": ({"site": "resid_post"}, "Unknown site"),
    "all positions of a state": ({"all_positions": True}, "site='z'"),
    "no pairs": ({"positions": []}, "at least one"),
    "a triple": ({"positions": [(1, 2, 3)]}, "of pairs"),
    "not pairs": ({"positions": [1, 2]}, "of pairs"),
    "past the end": ({"positions": [(0, 7)]}, "past the end of the corrupted"),
    "past the clean end": ({"positions": [(-8, 0)]}, "past the end of the clean"),
    "one target twice": ({"positions": [(0, 1), (2, 1)], "site": "z", "all_positions": True}, "occurs twice"),
    "several read positions": ({"read": "mean"}, "one position"),
    "read past the end": ({"read": 7}, "past the end"),
    "empty": ({"clean": ""}, "empty"),
    "a list": ({"clean": [CLEAN, CLEAN]}, "takes a prompt \\(a text"),
    "metric of all positions": ({"metric": lambda logits: logits.sum()}, r"tensor \[batch\]"),
    "metric that is no tensor": ({"metric": lambda logits: 0.0}, "returned float"),
    "metric of NaN": ({"metric": lambda logits: logits[:, 0] * torch.nan}, "NaN"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_is_refused(tiny_model, wrong):
    settings, message = BAD[wrong]
    with pytest.raises((ValueError, TypeCheckError), match=message):  # under test, wrong types are caught before us
        grid(tiny_model, **settings)


def test_a_metric_that_turns_nan_within_the_grid_is_refused(tiny_model):
    ends = [grid(tiny_model).clean, grid(tiny_model).corrupted]

    def only_the_ends(logits):
        found = difference(logits)
        known = torch.stack([(found - end).abs() < 1e-3 for end in ends]).any(0)
        return torch.where(known, found, torch.nan)

    with pytest.raises(ValueError, match="NaN"):
        grid(tiny_model, only_the_ends)


def test_metrics_refuse_what_is_not_one_token(tiny_model):
    with pytest.raises(ValueError, match="not a single token"):
        shl.metric.log_prob(tiny_model, "three plus")
    with pytest.raises(ValueError, match="share the token ids"):
        shl.metric.logit_difference(tiny_model, RIGHT, [RIGHT, WRONG])
    with pytest.raises(ValueError, match="vocabulary"):
        shl.metric.log_prob(tiny_model, 10_000)
    with pytest.raises(ValueError, match="one position"):
        shl.metric.kl(tiny_model, CLEAN, read="raw_mean")


def test_a_metric_without_gradient_is_refused(tiny_model):
    with pytest.raises(ValueError, match="No gradient"):
        shl.attribution_grid(tiny_model, CLEAN, CORRUPTED, lambda logits: difference(logits).detach())


def test_a_model_that_does_not_reproduce_its_own_run_is_run_another_way_or_refused(tiny_model, monkeypatch):
    """Control of the check on the first row: a prefix of wrong keys must be noticed."""
    from semhub_lens.interventions import grid as _grid

    prefix = _grid.shared_prefix

    def wrong(cache, columns):
        made = prefix(cache, columns)
        for layer in getattr(made, "entries", None) or made.layers:
            name = "past_values" if hasattr(layer, "past_values") else "_prefix"
            old = getattr(layer, name)
            setattr(layer, name, 2 * old if torch.is_tensor(old) else (old[0], 2 * old[1]))
        return made

    exact = grid(tiny_model)
    monkeypatch.setattr(_grid, "shared_prefix", wrong)
    noticed = grid(tiny_model)
    assert (exact.provenance.notes, noticed.provenance.notes) == ((), ("rows from the start",))
    torch.testing.assert_close(noticed.values, exact.values, **CLOSE)
    noise = [("blocks.1.hook_resid_post", lambda activation, hook: activation + torch.randn_like(activation))]
    with tiny_model.hooks(fwd_hooks=noise), pytest.raises(ValueError, match="do not reproduce"):
        grid(tiny_model)


def test_no_hooks_stay_behind(tiny_model):
    with torch.no_grad():
        before = tiny_model(CLEAN.ids[None])
        grid(tiny_model, site="resid_mid")
        shl.attribution_grid(tiny_model, CLEAN, CORRUPTED, difference)
        assert torch.equal(tiny_model(CLEAN.ids[None]), before)


def other(name, window=None):
    """A tiny random model of another family, on a bridge."""
    import transformers
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    sizes = {
        "vocab_size": 69,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    common = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None, "initializer_range": 0.3}
    torch.manual_seed(0)
    if name == "GPT2":
        config = transformers.GPT2Config(vocab_size=69, n_embd=32, n_layer=3, n_head=4, n_positions=64, **common)
        config.n_ctx = 64
    elif name == "GPTNeoX":
        config = transformers.GPTNeoXConfig(**sizes, max_position_embeddings=64, **common)
    else:
        config = transformers.Gemma3TextConfig(
            **sizes, num_key_value_heads=2, head_dim=8, max_position_embeddings=64, sliding_window=window,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"], **common,
        )  # fmt: skip
    config._attn_implementation = "eager"
    kind = {"GPT2": "GPT2LMHeadModel"}.get(name, f"{name}ForCausalLM")
    hf = getattr(transformers, kind)(config).eval()
    return build_bridge_from_module(hf, kind, hf_config=config, tokenizer=None).eval()


@pytest.mark.parametrize(("name", "window"), [("GPT2", None), ("GPTNeoX", None), ("Gemma3", 64), ("Gemma3", 3)])
def test_other_families_and_short_sliding_windows_are_exact(name, window):
    model = other(name, window)
    for site in ("resid_pre", "attn_out", "mlp_out"):
        found = grid(model, site=site)
        for layer, target in [(0, 2), (1, 2), (1, 5), (2, 3), (2, 6)]:
            alone = difference(one_cell(model, CLEAN, CORRUPTED, site, layer, target, target))
            assert found.values[layer, target].item() == pytest.approx(alone.item(), abs=1e-4)
        assert found.effect.abs().max() > 1e-3


def test_a_parallel_block_has_no_middle_and_says_so():
    with pytest.raises(ValueError, match=r"no hook point 'blocks\.0\.hook_resid_mid'"):
        grid(other("GPTNeoX"), site="resid_mid")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("site", [*SITES, "z"])
def test_cells_of_gemma_equal_runs_of_their_own(gemma, site):
    """Some cells of a real grid against the ordinary hooks, and the approximation pointing the same way."""
    texts = ["The capital of France is the city of", "The capital of Italy is the city of"]
    clean, corrupted = (Prompt.from_text(gemma, text) for text in texts)
    metric = shl.metric.logit_difference(gemma, " Paris", " Rome")
    found = shl.patch_grid(gemma, clean, corrupted, metric, site=site, progress=False)
    last = len(clean) - 1
    cells = [(0, 4), (9, 4), (9, last), (17, last)]
    for layer, target in cells:
        if site == "z":
            alone = [metric(one_head(gemma, clean, corrupted, layer, target, head)).item() for head in range(4)]
        else:
            alone = metric(one_cell(gemma, clean, corrupted, site, layer, target, target)).item()
        assert found.values[layer, target].tolist() == pytest.approx(alone, abs=1e-4)
    approximate = shl.attribution_grid(gemma, clean, corrupted, metric, site=site)
    both = torch.stack([found.effect.flatten(), approximate.effect.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.3
    assert torch.corrcoef(torch.stack([both[0], both[1].roll(7)]))[0, 1] < torch.corrcoef(both)[0, 1]


def one_head(model, clean, corrupted, layer, target, head):
    name, kept = site_name(layer, "z"), []

    def write(activation, hook):
        out = activation.clone()
        out[0, target, head] = kept[0][0, target, head]
        return out

    with torch.no_grad():
        model.run_with_hooks(clean.ids[None], fwd_hooks=[(name, lambda a, hook: kept.append(a.clone()))])
        return model.run_with_hooks(corrupted.ids[None], fwd_hooks=[(name, write)])[:, -1]


@pytest.mark.parametrize(
    ("name", "site"),
    [("bloom", "resid_pre"), ("bloom", "z"), ("xglm", "attn_out"), ("mpt", "mlp_out"), ("rwkv", "resid_pre"),
     ("opt", "resid_pre"), ("opt", "mlp_out"), ("opt", "resid_mid"), ("gemma4", "resid_pre")],
)  # fmt: skip
def test_hosts_whose_rows_cannot_join_a_pass_give_the_grid_of_single_runs(name, site):
    model = models.host(name)
    found = grid(model, site=site, max_tokens=40)
    kept = []
    hook = site_name(1, site)
    states = []
    model.run_with_hooks(CLEAN.ids[None], fwd_hooks=[(hook, lambda a, hook: kept.append(a.detach().clone()))])
    for target in (2, 5):

        def edit(activation, hook, target=target):
            flat = activation.view(-1, *activation.shape[-2:] if site == "z" else activation.shape[-1:])  # one row
            clean = kept[0].view_as(flat)
            heads = (slice(None), 0) if site == "z" else ()
            index = (target, 0) if heads else (target,)
            flat[index] = clean[index]  # in place: an edit of resid_mid reaches the residual stream so
            return activation

        with torch.no_grad():
            logits = model.run_with_hooks(CORRUPTED.ids[None], fwd_hooks=[(hook, edit)])[:, -1]
        states.append(difference(logits).item())
    ours = found.values[1, [2, 5]]
    assert (ours[:, 0] if site == "z" else ours).tolist() == pytest.approx(states, abs=1e-4)
    assert found.effect.abs().max() > 1e-3
    slow = {"bloom", "xglm", "gemma4"}
    assert found.provenance.notes == (("rows from the start",) if name in slow else ())


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_tensors_and_metrics_of_transformer_lens_give_its_grid(backend):
    model = models.tiny(backend)
    tokens, metric = (CLEAN.ids[None], CORRUPTED.ids[None]), shl.metric.of_logits(at_last)
    found = shl.patch_grid(model, *tokens, metric, progress=False)
    torch.testing.assert_close(found.values, by_peer(model, "resid_pre").cpu(), **CLOSE)
    assert found.metric == "at_last" and found.effect.abs().max() > 0.01
    steep = shl.attribution_grid(model, *tokens, metric).values
    torch.testing.assert_close(steep, shl.attribution_grid(model, CLEAN, CORRUPTED, difference).values, **CLOSE)


def test_a_metric_of_logits_finds_them_at_the_position_that_is_read(tiny_model):
    metric = shl.metric.of_logits(lambda logits: difference(logits[:, 4]).mean(), name="fourth")
    assert torch.equal(grid(tiny_model, metric, read=4).values, grid(tiny_model, read=4).values)
    longer = Prompt.from_ids([1, 44, 10, 44, 12, 40, 35, 17, 9])
    settings = {"corrupted": longer, "positions": [(1, 2), (-1, -2)]}
    last = shl.metric.of_logits(at_last)  # each prompt has its own length
    torch.testing.assert_close(grid(tiny_model, last, **settings).values, grid(tiny_model, **settings).values, **CLOSE)


@pytest.mark.parametrize(
    "metric, error",
    [
        (at_last, r"failed on logits \[batch vocab\].*of_logits"),
        (lambda logits: logits.mean(), r"returned shape \(\).*of_logits"),
        (shl.metric.of_logits(lambda logits: logits[0, 2, 5]), "returned nan.*only at position 6"),
        (shl.metric.of_logits(lambda logits: logits[:, -1]), "returned a tensor of shape"),
        (shl.metric.of_logits(lambda logits: logits[3, -1, 5]), "failed on logits.*one pair"),
    ],
)
def test_a_metric_of_the_other_kind_is_told(tiny_model, metric, error):
    with pytest.raises(shl.SemhubError, match=error):
        grid(tiny_model, metric)
