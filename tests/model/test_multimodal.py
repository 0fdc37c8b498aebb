"""Pictures and sound through real multimodal architectures: equal to Hugging Face, exact in batches, well located."""

from types import SimpleNamespace

import pytest
import torch
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor

import multimodal as made
import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.inputs.media import Media, Tile
from semhub_lens.inputs.processors import picture_tiles
from semhub_lens.interventions import hooks as edits
from semhub_lens.model.capture import prompt_states
from semhub_lens.model.packaged import PACKAGED, packaged_files, plain_folder


@pytest.fixture(scope="module", params=made.FAMILIES)
def family(request):
    """Its name, the bridge, and the same network untouched by TransformerLens."""
    return request.param, made.bridge(request.param), made.network(request.param)


def kind(name):
    return "audio" if name in made.SOUND else "image"


def inputs(prompt):
    return {"input_ids": prompt.ids[None], "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)} | dict(
        prompt.media.inputs
    )


def all_states(model, prompts, hooks=()):
    found = {item: states for batch in prompt_states(model, prompts, hooks) for item, states in batch}
    return [found[item] for item in range(len(prompts))]


@torch.no_grad()
def test_residual_states_and_the_last_lens_are_those_of_hugging_face(family):
    name, model, hf = family
    prompt = made.prompt(name)
    expected = hf(**inputs(prompt), output_hidden_states=True)
    (states,) = all_states(model, [prompt])
    theirs = torch.stack(expected.hidden_states)[:-1, 0]
    layers = [0, 2] if name == "qwen3_vl" else [0, 1, 2]  # its hidden state 1 has picture features added to it
    torch.testing.assert_close(states[layers], theirs[layers], atol=1e-4, rtol=1e-4)
    lens = shl.logit_lens(model, prompt, top_k=3)
    expected_log_probs = expected.logits[0].log_softmax(-1).topk(3, -1).values
    torch.testing.assert_close(lens.top_logprobs[-1], expected_log_probs, atol=1e-4, rtol=1e-4)


def test_a_picture_or_sound_changes_the_answer(family):
    name, model, _ = family
    ends = [states[-1, -1] for states in all_states(model, [made.prompt(name, seed) for seed in (0, 1)])]
    assert float((ends[0] - ends[1]).norm() / ends[0].norm()) > 1e-3


def test_batches_with_text_between_give_what_each_prompt_gives_alone(family):
    name, model, _ = family
    text = Prompt.from_text(model, "a dog", prepend_bos=False)
    listed = [made.prompt(name, 0), text, made.prompt(name, 1), made.prompt(name, 2, "What is a dog ?")]
    together = all_states(model, listed)
    for prompt, states in zip(listed, together, strict=True):
        torch.testing.assert_close(states, all_states(model, [prompt])[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_generation_is_hugging_faces_cached_or_not_and_the_same_in_a_batch(family):
    name, model, hf = family
    listed = [made.prompt(name, 0), made.prompt(name, 1)]
    found = shl.generate(model, listed, max_new_tokens=4, progress=False).token_ids
    assert found == shl.generate(model, listed, max_new_tokens=4, use_cache=False, progress=False).token_ids
    for prompt, ids in zip(listed, found, strict=True):
        assert shl.generate(model, prompt, max_new_tokens=4, progress=False).token_ids == (ids,)
        theirs = hf.generate(**inputs(prompt), max_new_tokens=4, do_sample=False)[0, -len(ids) :]
        assert ids == tuple(theirs.tolist())


def test_every_cell_of_a_patch_grid_equals_a_run_of_its_own(family):
    name, model, _ = family
    clean, corrupted = made.prompt(name, 0), made.prompt(name, 1)
    metric = shl.metric.logit_difference(model, made.VOCABULARY.index("Yes"), made.VOCABULARY.index("No"))
    found = shl.patch_grid(model, clean, corrupted, metric, progress=False)
    (source,) = all_states(model, [clean])
    readout = shl.Readout(model)
    span = corrupted.spans[kind(name)]
    for layer in range(made.LAYERS):
        for position in (span[0], span[-1], len(corrupted) - 1):
            patch = edits.patch(source[layer][[position]], positions=[position])
            hooks = edits.at(layer, patch, site="resid_pre")
            (states,) = all_states(model, [corrupted], hooks)
            expected = metric(readout(states[-1, -1:]))
            torch.testing.assert_close(found.values[layer, position], expected[0], atol=2e-3, rtol=1e-3)


def test_an_edit_of_the_picture_or_sound_positions_reaches_the_answer_and_strength_zero_does_not(family):
    name, model, _ = family
    prompt = made.prompt(name)
    direction = torch.randn(made.WIDTH, generator=torch.Generator().manual_seed(0))
    (plain,) = all_states(model, [prompt])
    for strength, changes in ((0.0, False), (5.0, True)):
        hooks = edits.at(1, edits.add(direction, strength, kind(name)), site="resid_pre")
        (edited,) = all_states(model, [prompt], hooks)
        assert bool((edited[-1, -1] != plain[-1, -1]).any()) == changes


@torch.no_grad()
def test_a_prompt_continued_by_tokens_keeps_what_it_shows(family):
    name, model, hf = family
    whole = made.prompt(name).continued([made.VOCABULARY.index("a"), made.VOCABULARY.index("dog")])
    lens = shl.logit_lens(model, whole, top_k=2)
    expected = hf(**inputs(whole)).logits[0].log_softmax(-1).topk(2, -1).values
    torch.testing.assert_close(lens.top_logprobs[-1], expected, atol=1e-4, rtol=1e-4)


def quadrants(name):
    """The embedding's change at each picture position when one quadrant of the picture changes, without attention."""
    hf = made.network(name)
    for part, parameter in hf.named_parameters():
        if "vision" in part and ("out_proj" in part or "o_proj" in part):
            torch.nn.init.zeros_(parameter)  # no patch sees another
    model, processor = made.bridge(name, hf), made.processor(name)
    side = 4 * made.SIDE if name == "idefics3" else made.SIDE
    picture, text = made.picture(0, side, side), f"{made.WRITTEN.get(name, '<image>')} What ?"
    before = Prompt.from_processor(processor, text=text, images=picture)
    (plain,) = all_states(model, [before])
    half = side // 2
    for row in range(2):
        for column in range(2):
            changed = picture.copy()
            changed.paste((255, 0, 0), (column * half, row * half, (column + 1) * half, (row + 1) * half))
            (states,) = all_states(model, [Prompt.from_processor(processor, text=text, images=changed)])
            yield before.media.tiles["image:0"], (row, column), (states[0] - plain[0]).abs().amax(-1)


@pytest.mark.parametrize("name", [name for name in ("llava", "llava_next", "gemma3") if name in made.FAMILIES])
def test_tiles_are_row_major(name):
    for tiles, (row, column), moved in quadrants(name):
        assert all((tile.rows, tile.columns) == (2, 2) for tile in tiles)
        expected = {tile.positions[row * tile.columns + column] for tile in tiles}
        assert set((moved > 1e-6).nonzero()[:, 0].tolist()) == expected


def test_a_picture_cut_into_parts_has_a_tile_for_each_and_the_whole_last():
    for tiles, (row, column), moved in quadrants("idefics3"):
        parts, whole = tiles[:4], tiles[4]
        changed = {i for i in (moved > 1e-6).nonzero()[:, 0].tolist() if i not in whole.positions}
        assert changed == set(parts[2 * row + column].positions)
        assert whole.positions[int(moved[list(whole.positions)].argmax())] == whole.positions[2 * row + column]


@pytest.mark.parametrize(
    "size, shape", [((28, 56), (2, 4)), ((56, 28), (4, 2)), ((56, 56), (4, 4)), ((28, 50), (2, 4))]
)
def test_any_resolution_leaves_out_the_newlines(size, shape):
    prompt = Prompt.from_processor(made.processor("llava_next"), text="<image> What ?", images=made.picture(0, *size))
    small, full = prompt.media.tiles["image:0"]
    assert (small.rows, small.columns) == (2, 2) and (full.rows, full.columns) == shape
    left = set(prompt.spans["image"]) - set(small.positions) - set(full.positions)
    assert left == {full.positions[(row + 1) * full.columns - 1] + 1 for row in range(full.rows)}


def test_merged_patches_and_rows_that_end_with_a_token_make_one_tile():
    merged = SimpleNamespace(image_processor=SimpleNamespace(merge_size=2))
    grids = {"image_grid_thw": torch.tensor([[1, 2, 2], [1, 4, 6]])}
    assert picture_tiles(merged, grids, tuple(range(5, 11)), 1) == (Tile(tuple(range(5, 11)), 2, 3),)
    pixtral = type("PixtralProcessor", (), {})()
    rows = (1, 2, 3, 5, 6, 7)  # 4 and 8 end the rows
    assert picture_tiles(pixtral, {}, rows, 0) == (Tile(rows, 2, 3),)
    with pytest.raises(ValueError, match="not a square number"):
        picture_tiles(SimpleNamespace(), {}, (1, 2, 3), 0)


def test_onevision_scales_a_large_picture_down_to_what_its_own_count_says():
    processor = object.__new__(LlavaOnevisionProcessor)
    processor.num_image_tokens, processor.vision_aspect_ratio = 4, "anyres_max_1"
    processor.image_processor = SimpleNamespace(image_grid_pinpoints=[[28, 28], [56, 112]])
    encoded = {"pixel_values": torch.zeros(1, 9, 3, 28, 28), "image_sizes": torch.tensor([[50, 100]])}
    count = processor._get_number_of_features(50, 100, 28, 28)
    small, full = picture_tiles(processor, encoded, tuple(range(count)), 0)
    assert len(small.positions) == 4 and (full.rows, full.columns) == (1, 2)
    assert small.positions + full.positions == tuple(range(count - 1)), "the newline comes last"


def test_several_pictures_have_spans_of_their_own():
    pictures = [made.picture(0), made.picture(1, 28, 56)]
    for name in ("llava", "llava_next"):
        text = "a <image> dog <image> cat"
        prompt = Prompt.from_processor(made.processor(name), text=text, images=pictures)
        alone = [Prompt.from_processor(made.processor(name), text="<image>", images=p) for p in pictures]
        assert [len(prompt.spans[f"image:{i}"]) for i in range(2)] == [len(p) for p in alone]
        assert prompt.spans["image"] == prompt.spans["image:0"] + prompt.spans["image:1"]
        words = [made.VOCABULARY[int(prompt.ids[i])] for i in range(len(prompt)) if i not in prompt.spans["image"]]
        assert words == ["a", "dog", "cat"]


@pytest.mark.parametrize("name, step", [("qwen2_audio", 0.04), ("audioflamingo3", 0.04), ("glmasr", 0.08)])
@pytest.mark.parametrize("seconds", [0.32, 0.2])
def test_sound_positions_know_their_times(name, step, seconds):
    prompt = Prompt.from_processor(made.processor(name), text="<audio> What ?", audio=made.sound(0, seconds))
    times = prompt.media.times["audio:0"]
    assert len(times) == len(prompt.spans["audio"]) and abs(len(times) * step - seconds) <= step
    assert times == pytest.approx([i * step for i in range(len(times))])


def test_a_wrong_number_of_placeholders_an_empty_text_and_a_wrong_rate_are_said():
    llava, ears = made.processor("llava"), made.processor("qwen2_audio")
    with pytest.raises(ValueError, match="has 0 placeholders '<image>' for 1"):
        Prompt.from_processor(llava, text="What ?", images=made.picture())
    with pytest.raises(ValueError, match="at least one picture or sound"):
        Prompt.from_processor(llava, text="<image> What ?")
    with pytest.raises(ValueError, match="takes no audio"):
        Prompt.from_processor(llava, text="What ?", audio=made.sound())
    with pytest.raises(ValueError, match="16000 Hz, got 44100"):
        Prompt.from_processor(ears, text="<audio> What ?", audio=made.sound(), sampling_rate=44100)
    with pytest.raises(ValueError, match="finite mono waveform"):
        Prompt.from_processor(ears, text="<audio> What ?", audio=made.sound()[None])


def test_media_are_refused_by_a_model_that_cannot_take_them(tiny_model):
    prompt = Prompt.from_ids([3, 4], media=Media({"pixel_values": torch.zeros(1, 3, 4, 4)}))
    with pytest.raises(ValueError, match="pictures or sound, which tiny-llama"):
        shl.residual_stream(tiny_model, prompt, progress=False)


@pytest.mark.skipif(made.NEW_LINE, reason="transformer-lens 4 reads these pictures rightly")
def test_gemma_3_pictures_are_refused_on_the_old_line():
    model = made.bridge("gemma3")
    with pytest.raises(ValueError, match="install transformer-lens 4"):
        shl.residual_stream(model, made.prompt("gemma3"), progress=False)


def test_media_need_finite_tensors_with_a_batch_axis():
    with pytest.raises(ValueError, match="tensors with a batch axis"):
        Media({})
    with pytest.raises(ValueError, match="NaN or infinite"):
        Media({"pixel_values": torch.full((1, 2), torch.nan)})
    with pytest.raises(ValueError, match="needs 6 positions, got 2"):
        Tile((0, 1), 2, 3)


@pytest.mark.real
@pytest.mark.slow
def test_a_real_language_model_under_a_vision_tower_is_itself_without_a_picture():
    import transformers

    smol = shl.load("smollm2-135m", backend="bridge")
    text = smol.original_model.config
    vision = made.vision_config(transformers.CLIPVisionConfig, projection_dim=16)
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=16, vision_feature_layer=-2, image_seq_length=4
    )
    torch.manual_seed(0)
    hf = transformers.LlavaForConditionalGeneration(config).eval()
    packaged = PACKAGED["smollm2-135m"]
    folder = plain_folder(packaged.name, packaged_files(packaged), packaged.sha256)
    given = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    hf.model.language_model.load_state_dict(given.model.state_dict())
    hf.tie_weights()
    model = made.bridge("llava", hf)
    model.tokenizer = smol.tokenizer
    words = Prompt.from_text(smol, "The capital of France is", prepend_bos=False)
    (ours,), (theirs,) = all_states(model, [words]), all_states(smol, [words])
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
    span = (0, 1, 2, 3)
    pixels = torch.randn(1, 3, made.SIDE, made.SIDE, generator=torch.Generator().manual_seed(0))
    ids = torch.cat([torch.full((4,), 16), words.ids])
    seen = Prompt.from_ids(ids, spans={"image": span}, media=Media({"pixel_values": pixels}))
    lens = shl.target_lens(model, [seen], [[" Paris", " Berlin"]], read_at=[[len(ids) - 1]], progress=False)
    assert lens.log_probs.shape == (31, 1, 2) and torch.isfinite(lens.log_probs).all()
    text_of = shl.generate(model, seen, max_new_tokens=3, progress=False)
    assert text_of.token_ids == shl.generate(model, seen, max_new_tokens=3, use_cache=False, progress=False).token_ids
