"""Two recipes: the training and test data of vision and audio spokes, and a whole training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.files import user_path, write_aside
from semhub_lens.base.rng import generator
from semhub_lens.data.media.colours import colour_pictures
from semhub_lens.data.media.items import MediaItem, Split, split_items
from semhub_lens.data.media.pictures import bundled_code_points
from semhub_lens.model.facts import Model, provenance_of, require_model
from semhub_lens.spokes.encoders import AudioEncoder, Encoder, VisionEncoder
from semhub_lens.spokes.layout import unembedding_hash, vocabulary_hash
from semhub_lens.spokes.projector import Card, Projector, save_projector
from semhub_lens.training.checkpoints import EVALUATION, require_name
from semhub_lens.training.corpora.emoji import emoji_pictures
from semhub_lens.training.corpora.families import families, names_one_of, words
from semhub_lens.training.corpora.named import named_pictures, named_recordings
from semhub_lens.training.corpora.speech import HELD, TRAINED, known_words, speech_items, spoken_words
from semhub_lens.training.corpora.stamps import stamp_pictures, stamp_speech
from semhub_lens.training.evaluation import SpokeEvaluation, asked_in, evaluate
from semhub_lens.training.features import features
from semhub_lens.training.sampler import TrainingSet, TrainingSettings
from semhub_lens.training.sources import require_settings
from semhub_lens.training.train import TrainingCurve, train

VISION_TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "en": ("<image> This is a picture of a", "<image> A picture of a", "<image> a", "<image> A"),
        "fr": ("<image> C'est une image :", "<image> L'image montre :"),
        "es": ("<image> Es una imagen de", "<image> La imagen muestra:"),
        "de": ("<image> Das ist ein Bild:", "<image> Das Bild zeigt:"),
        "zh": ("<image>这是一张图片：", "<image>图中是：“"),
    }
)
AUDIO_TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "en": ("<audio> The word is", "<audio> They said:", "<audio> It says"),
        "fr": ("<audio> Le mot est", "<audio> J'ai entendu le mot"),
        "es": ("<audio> La palabra es", "<audio> He oído la palabra"),
        "de": ("<audio> Das Wort ist", "<audio> Ich hörte das Wort"),
        "zh": ("<audio>这个词是：“", "<audio>我听到：“"),
    }
)
CHECKED = 128
"""Number of items of a split whose loss is watched during training."""
TESTED = 200
"""Most items of a split, style and language in a test, drawn at random; the others are not encoded."""
MOST = 600
"""Most items of a split in a test; the split by style is not cut, because a style may have few."""


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """Items with features, their division, and the templates."""

    modality: str
    encoder: str
    items: Sequence[MediaItem]
    features: Float[Tensor, "item view chunk d"]
    split: Split
    templates: Mapping[str, Sequence[str]]
    data: Mapping[str, int]
    """Number of items by style."""

    def training_set(self, indices: Sequence[int]) -> TrainingSet:
        """The items at these indices as a training set."""
        chosen = list(indices)
        names = [[(code, name) for code, listed in self.items[i].names.items() for name in listed] for i in chosen]
        return TrainingSet(self.features[chosen], names, self.templates, self.modality)


@checked
def vision_plan(
    font: str | Path,
    stamps: str | Path | None = None,
    *,
    more: Mapping[str, str | Path] | None = None,
    named: Mapping[str, str | Path] | None = None,
    colours: bool = True,
    grid: int = 3,
    views: int = 6,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> TrainingPlan:
    """Emoji, stamps and drawings with their names in five languages; the bundled pictures are held out.

    Whole families of concepts are either trained or unseen (see `families`). No trained name contains the name of an
    unseen concept. A third of the unseen families is reserved for choosing a recipe.

    Args:
        font: a colour font of emoji (Noto).
        stamps: folder of Tux Paint's stamps; None leaves them out.
        more: further emoji folders by style, such as `emoji-datasource-twitter/img/twitter/64`.
        named: further folders by style, with pictures whose file names say what they show.
        colours: also train on plain colours (never tested).
        grid: regions per side.
        views: number of views of every picture; the first is unchanged.
        cache: folder of the features; None stores nothing.
        seed: seed of the split and of the changed views.
        progress: whether to show a bar.

    Raises:
        SemhubError: a package, font or folder is missing.

    Example:
        >>> plan = vision_plan("NotoColorEmoji.ttf", "stamps", cache="features")  # doctest: +SKIP
    """
    require_settings("vision", [*(more or {}), *(named or {})], views, cache, seed)
    encoder = VisionEncoder(grid)
    items = emoji_pictures(font)
    items += stamp_pictures(stamps) if stamps is not None else []
    for style, folder in (more or {}).items():
        items += emoji_pictures(folder, style)
    for style, folder in (named or {}).items():
        items += named_pictures(folder, style)
    bundled = {f"emoji:{code}" for code in bundled_code_points()}
    split = split_items(items, seed=seed, held=bundled, families=families(items), choosing=1 / 3)
    unseen = {words(name) for i in (*split.new_concept, *split.choosing) for name in items[i].names["en"]}
    plain = colour_pictures(seed=seed) if colours else []
    trained = [i for i in split.train if not names_one_of(items[i], list(unseen))]
    split = replace(split, train=(*trained, *range(len(items), len(items) + len(plain))))
    return _encoded_plan(encoder, [*items, *plain], split, VISION_TEMPLATES, views, cache, seed, progress)


@checked
def audio_plan(
    stamps: str | Path | None = None,
    *,
    named: Mapping[str, str | Path] | None = None,
    words: int = 1200,
    languages: Mapping[str, int] = MappingProxyType({"en": 12, "fr": 4, "es": 4, "de": 2, "zh": 2}),
    chunks: int = 8,
    views: int = 2,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> TrainingPlan:
    """Words in eSpeak's and further voices; two voices and, with stamps, people's recordings are only tested.

    Args:
        stamps: folder of Tux Paint's stamps; None leaves their names and recordings out.
        named: folders of recordings by voice, see `named_recordings`; they are trained.
        words: number of English words.
        languages: number of voices that read each language's words; a language not listed is left out.
        chunks: feature vectors of a clip.
        views: number of views of every clip; the first is unchanged.
        cache: folder of the features; None stores nothing.
        seed: seed of the split and of the changed views.
        progress: whether to show a bar.

    Raises:
        SemhubError: a package or folder is missing.

    Example:
        >>> plan = audio_plan("stamps", words=200, cache="features")  # doctest: +SKIP
    """
    require_settings("audio", named or {}, views, cache, seed)
    encoder = AudioEncoder(chunks)
    spoken = {k: v for k, v in spoken_words(stamps, english=words).items() if k in languages}
    items = speech_items(spoken, variants=TRAINED, voices=languages)
    items += speech_items(spoken, variants=HELD)
    known = known_words(spoken)
    people = stamp_speech(stamps, tuple(languages)) if stamps is not None else []
    items += [one for one in people if all(names[0].lower() in known[code] for code, names in one.names.items())]
    for voice, folder in (named or {}).items():
        items += named_recordings(folder, voice, known)
    held = [*HELD, *sorted({item.style for item in people})]
    split = split_items(items, seed=seed, concepts=0.1, styles=0.0, repeats=0.0, held_styles=held)
    return _encoded_plan(encoder, items, split, AUDIO_TEMPLATES, views, cache, seed, progress)


def _encoded_plan(
    encoder: Encoder,
    items: list[MediaItem],
    split: Split,
    templates: Mapping[str, Sequence[str]],
    views: int,
    cache: str | Path | None,
    seed: int,
    progress: bool,
) -> TrainingPlan:
    """Encode all views of training items, and only the first view of test items."""
    tests = sorted(i for part, indices in _drawn(items, split, TESTED).items() if part != "train" for i in indices)
    seen = [items[i] for i in split.train]
    trained = features(encoder, seen, views=views, folder=cache, seed=seed, progress=progress)
    whole = trained.new_zeros(len(items), *trained.shape[1:])
    whole[list(split.train)] = trained
    if tests:
        found = features(encoder, [items[i] for i in tests], views=1, folder=cache, seed=seed, progress=progress)
        whole[tests] = found
    counts = {style: sum(item.style == style for item in items) for style in sorted({item.style for item in items})}
    return TrainingPlan(encoder.modality, encoder.name, items, whole, split, templates, counts)


@checked
def run_plan(
    model: Model,
    plan: TrainingPlan,
    out: str | Path,
    *,
    name: str,
    settings: TrainingSettings,
    hidden: int = 512,
    embeddings: int = 4,
    joint: bool = True,
    standardised: bool = True,
    codes: bool = False,
    rank: int = 0,
    every: int = 100,
    judge: Model | None = None,
    progress: bool = True,
) -> tuple[Projector, TrainingCurve, SpokeEvaluation]:
    """Train, save and test a projector; a stopped run resumes from its checkpoint.

    Writes `NAME.safetensors` (the projector), `curve.csv`, `evaluation.safetensors`, `items.csv` (rank of every test
    item) and `summary.csv`.

    Args:
        model: the language model to train through.
        plan: the training and test items.
        out: folder of this training.
        name: name of the spoke.
        settings: settings of the training.
        hidden: size of the projector's hidden layer.
        embeddings: vectors of one picture or clip.
        joint, standardised, rank: see `Shape`.
        codes: see `train`.
        every: steps between checkpoints.
        judge: the language model for the tests, if it differs from `model` in dtype; None takes `model`.
        progress: whether to show a bar.

    Raises:
        SemhubError: the folder cannot be written or contains another training, or no file can have this name.

    Example:
        >>> settings = TrainingSettings(steps=200)  # doctest: +SKIP
        >>> eyes, curve, tested = run_plan(model, plan, "runs", name="eyes", settings=settings)  # doctest: +SKIP
    """
    for each in (model, judge or model):
        require_model(each)
    require_name(name)
    folder, split = user_path(out), plan.split
    tested = {part: indices for part, indices in _drawn(plan.items, split, TESTED).items() if part != "train"}
    checks = {part: plan.training_set(_spread(indices, CHECKED)) for part, indices in tested.items()}
    projector, curve = train(
        model,
        plan.training_set(split.train),
        settings,
        hidden=hidden,
        embeddings=embeddings,
        joint=joint,
        standardised=standardised,
        codes=codes,
        rank=rank,
        folder=folder,
        checks=checks,
        every=every,
        progress=progress,
    )
    write_aside(folder / "curve.csv", lambda aside: curve.to_frame().to_csv(aside, index=False))
    save_projector(projector, card(model, plan, settings, name, curve), folder / f"{name}.safetensors")
    result = examine(judge or model, plan, projector)
    result.save(folder / EVALUATION)
    write_aside(folder / "items.csv", lambda aside: result.to_frame().to_csv(aside, index=False))
    write_aside(folder / "summary.csv", lambda aside: result.summary().to_csv(aside, index=False))
    return projector, curve, result


def examine(model: Model, plan: TrainingPlan, projector: Projector) -> SpokeEvaluation:
    """Evaluate a projector on all splits of a plan (at most `TESTED` items of each style)."""
    chosen = [(i, part) for part, indices in _drawn(plan.items, plan.split, TESTED).items() for i in indices]
    return evaluate(
        model,
        projector,
        plan.features[[i for i, _ in chosen], 0].float(),
        [plan.items[i] for i, _ in chosen],
        [part for _, part in chosen],
        templates={code: listed[0] for code, listed in plan.templates.items()},
        modality=plan.modality,
    )


def card(model: Model, plan: TrainingPlan, settings: TrainingSettings, name: str, curve: TrainingCurve) -> Card:
    """The record of origin in the projector's file."""
    provenance = provenance_of(model)
    said = asdict(settings) | {"items": dict(plan.data), "trained items": len(plan.split.train)}
    said |= {"dtype": provenance.dtype, "last loss": float(curve.smooth[-1]), "data hash": curve.provenance.data_hash}
    said |= {"semhub_lens": provenance.semhub_lens, "transformer_lens": provenance.transformer_lens}
    said |= {"torch": torch.__version__}
    fits = provenance.model, unembedding_hash(model), vocabulary_hash(model)
    return Card(name, plan.modality, plan.encoder, *fits, said)


def _drawn(items: Sequence[MediaItem], split: Split, count: int) -> dict[str, list[int]]:
    """At most `count` indices of a style and language, and `MOST` of a part; always the same indices."""
    found = {}
    for part, indices in split.parts().items():
        most = len(indices) if part == "new_style" else MOST
        order = [indices[i] for i in torch.randperm(len(indices), generator=generator(0)).tolist()]
        styles: dict[tuple[str, str], list[int]] = {}
        for i in order:
            styles.setdefault((items[i].style, asked_in(items[i])), []).append(i)
        if order:
            kept = {i for listed in styles.values() for i in listed[:count]}
            found[part] = sorted([i for i in order if i in kept][:most])
    return found


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """At most `count` of the indices, evenly spread."""
    return [indices[i * len(indices) // count] for i in range(count)] if len(indices) > count else list(indices)
