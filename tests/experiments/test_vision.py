"""Experiments on pictures: a planted name is found at the picture's positions, a wrong one and noise are not."""

import pytest
import torch

import semhub_lens as shl
from jobs import job_on
from semhub_lens import Prompt
from semhub_lens.base.results import Provenance
from semhub_lens.experiments.media.legs import at_positions, names_leg, read_names, reader_of
from semhub_lens.experiments.media.vision import PICTURES, run_similarity
from semhub_lens.inputs.readers import ProcessorReader, noise_like
from semhub_lens.lens import kernel

NAMES = "zero one two three four five six seven eight nine plus minus equals red blue green dog cat house".split()  # noqa: SIM905
WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False)
SPAN = (1, 2)


class Planted:
    """Shows a name as the direction that the unembedding reads as it."""

    name, hash, modality = "planted", "-", "image"

    def __init__(self, model, strength=6.0):
        self.model, self.strength = model, strength

    def prompt(self, text, media):
        plain = Prompt.from_text(self.model, "three plus two is")
        token = shl.word_tokens(self.model.tokenizer, media, variants="exact").ids[0]
        direction = self.model.W_U[:, token].detach().float().cpu()
        vectors = (self.strength * direction / direction.norm()).expand(len(SPAN), -1)
        return Prompt.from_ids(plain.ids, spans={"image": SPAN}, bos=plain.bos, embeddings={"image": vectors})


def leg(model, shown_names, names):
    job = job_on(model, len(names), baseline=False, progress=False)
    shown = [Planted(model).prompt("<image>", name) for name in shown_names]
    reading = read_names(job, PICTURES, "names", shown, names)
    return names_leg(job, PICTURES, "planted", reading, names, torch.arange(len(names)), WHERE)


def test_a_planted_name_is_found_at_the_pictures_positions_and_noise_is_not(tiny_model):
    found = leg(tiny_model, NAMES, NAMES)
    assert found.verdict.status == "supported" and float(found.mean[0]) > 1
    placebo = next(check for check in found.checks if check.name == PICTURES.not_noise)
    assert placebo.holds and abs(placebo.estimate) < 0.5 * found.verdict.estimate


def test_pictures_exchanged_between_names_are_not_supported(tiny_model):
    assert leg(tiny_model, NAMES[5:] + NAMES[:5], NAMES).verdict.status != "supported"


def test_the_mean_probability_over_positions_is_that_of_a_loop(tiny_model):
    job = job_on(tiny_model, 16, baseline=False, progress=False)
    shown = [Planted(tiny_model).prompt("<image>", name) for name in NAMES[:3]]
    found = at_positions(job, "image", "names", shown, NAMES[:4])
    for item, prompt in enumerate(shown):
        one = shl.target_lens(
            tiny_model, [prompt], [NAMES[:4]] * len(SPAN), read_at=[list(SPAN)], quantities=(), progress=False
        )
        expected = one.log_probs.exp().mean(1).log()
        torch.testing.assert_close(found[:, item], expected, atol=1e-5, rtol=1e-4)


def test_differences_at_one_position_need_no_vocabulary(tiny_model, monkeypatch):
    job = job_on(tiny_model, 16, baseline=False, progress=False, positions=1)
    shown = [Planted(tiny_model).prompt("<image>", name) for name in NAMES[:3]]
    whole = at_positions(job, "image", "names", shown, NAMES[:4])
    monkeypatch.setattr(kernel.LogitBlock, "__init__", refusing_the_vocabulary(tiny_model))
    few = at_positions(job, "image", "names", shown, NAMES[:4], height=False)
    torch.testing.assert_close(few - few[..., :1], whole - whole[..., :1], atol=1e-4, rtol=1e-4)
    with pytest.raises(AssertionError, match="whole vocabulary"):
        at_positions(job, "image", "names", shown, NAMES[:4])


def refusing_the_vocabulary(model):
    plain = kernel.LogitBlock.__init__

    def few(block, readout, **settings):
        assert readout.d_vocab < model.cfg.d_vocab, "the whole vocabulary is read"
        plain(block, readout=readout, **settings)

    return few


def test_noise_keeps_norms_and_changes_directions(tiny_model):
    given = Planted(tiny_model).prompt("<image>", "dog")
    (noise,) = noise_like([given], seed=0)
    torch.testing.assert_close(noise.embeddings["image"].norm(dim=1), given.embeddings["image"].norm(dim=1))
    assert float(torch.cosine_similarity(noise.embeddings["image"], given.embeddings["image"]).abs().max()) < 0.9
    assert bool((noise.ids == given.ids).all()) and noise.spans == given.spans
    with pytest.raises(ValueError, match="nothing to replace"):
        noise_like([Prompt.from_ids([3, 4])], seed=0)


def test_an_experiment_without_a_reader_says_what_to_give(tiny_model):
    with pytest.raises(ValueError, match=r"needs reader=\.\.\. for image, got none"):
        run_similarity(job_on(tiny_model, 16, progress=False))
    with pytest.raises(ValueError, match="got one for image"):
        reader_of(job_on(tiny_model, 16, reader=Planted(tiny_model)), "audio")


def test_a_processor_reader_puts_the_text_into_the_models_format():
    import multimodal as made

    eyes = ProcessorReader(made.processor("llava"), "image", "What {} ?")
    prompt = eyes.prompt("<image> is this", made.picture())
    assert prompt.text == "What <image> is this ?" and prompt.spans["image"] == (1, 2, 3, 4)
    ears = ProcessorReader(made.processor("qwen2_audio"), "audio")
    assert len(ears.prompt("<audio> What ?", (made.sound(), made.RATE)).spans["audio"]) == 8
    with pytest.raises(ValueError, match=r"needs '\{\}' exactly once"):
        ProcessorReader(made.processor("llava"), "image", "no place")
    with pytest.raises(ValueError, match="takes no audio"):
        ProcessorReader(made.processor("llava"), "audio")
