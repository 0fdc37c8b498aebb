"""Pictures: does the lens read a segment's label at its patches, and less at the patches outside it?"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.rng import generator
from semhub_lens.data.media.coco import coco_segments
from semhub_lens.data.media.pictures import bundled_pictures
from semhub_lens.data.media.segments import SegmentedPicture, composed_pictures, squared, squared_mask
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText, make_leg
from semhub_lens.evidence.stats import FEWEST_ITEMS, NullDraw, paired_contrast
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.experiments.media.legs import ADAPTER, reader_of
from semhub_lens.experiments.media.vision import NOT_NOISE, QUESTION
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.media import Tile
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import MediaReader, noise_like
from semhub_lens.inputs.tokens import is_single_token

BESIDE = "beyond the label of the picture's other part at the same patches"
AT_PATCHES = LegText(
    title="label at the segment's patches",
    data_type="images",
    kind="readability",
    claim="the lens at the patches that a segment covers prefers the segment's label to labels of other pictures",
    control="labels exchanged",
    unit="nats",
    curve_unit="log-probability",
)
LOCAL = LegText(
    title="label inside over outside the segment",
    data_type="images",
    kind="readability",
    claim="the lens reads a segment's label rather at the patches it covers than at the picture's other patches, "
    "beyond what labels of other pictures do",
    control="labels exchanged",
    unit="nats",
    curve_unit="log-probability inside minus outside",
)


@dataclass(frozen=True, eq=False)
class SegmentItem:
    """A prompt with a picture, the label of one of its segments, and the segment's place."""

    prompt: Prompt
    label: str
    present: tuple[str, ...]
    """All labels of the picture, this one included."""
    inside: tuple[int, ...]
    """Positions of the patches that the segment covers by more than half."""
    outside: tuple[int, ...]
    """Positions of the other patches."""


def run_logit_lens_segments(job: Job) -> ExperimentResult:
    r"""Does the lens read a segment's label at the segment's patches?

    Let $\bar p_\ell(w, P)$ be the mean probability of a word over the patches P. S are the patches that the segment
    covers by more than half, T the others. A are the labels that do not occur in the picture:

    $$e_{\ell i} = \log \bar p_\ell(w_i, S_i) - \frac1{|A_i|} \sum_{a \in A_i} \log \bar p_\ell(a, S_i)$$

    and, for locality, the same with $\log \bar p_\ell(\cdot, S_i) - \log \bar p_\ell(\cdot, T_i)$ in place of
    $\log \bar p_\ell(\cdot, S_i)$. An influence that raises all words at one place of the picture then cancels. Items
    are pictures composed of two bundled pictures, side by side or one above the other, or those of a COCO folder. Each
    picture counts once, with one label.

    `convention="paper"` transposes the masks, a mistake of the reference code.

    Raises:
        SemhubError: there are fewer than 16 items, a label is several tokens, or the reader's positions are not a grid.
    """
    reader = reader_of(job, "image")
    pictures, corpus = _pictures(job)
    items, report = segment_items(job, reader, pictures)
    return segment_result(job, reader, items, corpus, report)


def _pictures(job: Job) -> tuple[list[SegmentedPicture], str]:
    def fits(name: str) -> bool:
        return is_single_token(job.model.tokenizer, name, "all")

    if job.data is None:
        named = [item for item in bundled_pictures() if fits(item.names["en"][0])]
        if len(named) < FEWEST_ITEMS:
            raise Unfit(
                f"Only {len(named)} of the bundled pictures have an English name of one token for this tokenizer; at "
                f"least {FEWEST_ITEMS} are needed."
            )
        return composed_pictures(named, job.n, job.seed), "pictures put together of two bundled ones"
    every = [
        replace(picture, labels=labels)
        for picture in coco_segments(job.data)
        if (labels := tuple(name for name in picture.labels if fits(name)))
    ]
    order = torch.randperm(len(every), generator=generator(job.seed)).tolist()
    return [every[i] for i in order], f"segments of {job.data}"


def segment_items(job: Job, reader: MediaReader, pictures: Sequence[SegmentedPicture]) -> tuple[list[SegmentItem], str]:
    """Take pictures in order until `job.n` have a label with patches inside and outside its segment.

    Each picture gives one item, with its first such label.

    Returns:
        The items, and in words what was kept and dropped.

    Raises:
        SemhubError: `n` or the number of such pictures is below 16, or a prompt has no tile of the whole picture.
    """
    sample(len(pictures), job.n, job.seed)  # refuses too few before a picture is read
    items: list[SegmentItem] = []
    tried = 0
    for picture in pictures:
        if len(items) == job.n:
            break
        tried += 1
        opened, masks = picture.open()
        prompt = reader.prompt(QUESTION, squared(opened))
        tile = whole_tile(prompt)
        for label in picture.labels:
            mask = torch.from_numpy(squared_mask(masks[label]))
            inside = tile.covered(mask.T if job.paper else mask)
            outside = tuple(position for position in tile.positions if position not in inside)
            if inside and outside:
                items.append(SegmentItem(prompt, label, picture.labels, inside, outside))
                break
    report = (
        f"{len(items)} of {tried} pictures have a segment that covers more than half of a patch, and patches "
        "outside it."
    )
    if len(items) < FEWEST_ITEMS:
        raise SemhubError(f"{report} At least {FEWEST_ITEMS} are needed.")
    return items, report


def whole_tile(prompt: Prompt) -> Tile:
    """The first rectangle of patches that covers the whole picture.

    Raises:
        SemhubError: the prompt's positions are not a grid.
    """
    for tile in prompt.tiles:
        if tile.whole:
            return tile
    raise SemhubError(
        "The prompt does not tell where in the picture its positions are. This needs a processor with a known grid, "
        "or a spoke with one position for each region (a projector with joint=False)."
    )


def segment_result(
    job: Job, reader: MediaReader, items: Sequence[SegmentItem], corpus: str, report: str
) -> ExperimentResult:
    """The two legs of items: the label at its patches, and there more than at other patches."""
    names = sorted({label for item in items for label in item.present})
    provenance = job.provenance(
        f"{corpus} through {reader.name}",
        [[i.prompt for i in items], [(i.label, i.inside) for i in items]],
        lens=job.whole,
        bos=items[0].prompt.bos,
    )
    prompts = [item.prompt for item in items]
    sides = read_patches(job, "segments", items, prompts, names)
    placebos = {NOT_NOISE: read_patches(job, "segments-noise", items, noise_like(prompts, job.seed), names)}
    if job.baseline:
        placebos[NOT_RANDOM] = read_patches(job.random(), "segments", items, prompts, names, height=False)
    labels = [item.label for item in items]
    scene = _Scene(items, names)

    def leg(text: LegText, view: Callable[[Tensor], Float[Tensor, "layer item key"]]) -> Leg:
        matrix = view(sides)
        effect, draw = scene.contrast(matrix)
        beside = scene.beside(matrix)
        curves = {
            "own label": scene.own(matrix),
            "labels of other pictures": scene.absent(matrix),
            "own label, noise in place of the picture": scene.own(view(placebos[NOT_NOISE])),
        }
        if beside is not None:
            curves["label of the picture's other part"] = beside
        return make_leg(
            effect,
            draw,
            text,
            provenance=provenance,
            seed=job.seed,
            curves={name: curve.mean(1) for name, curve in curves.items()},
            controls={} if beside is None else {BESIDE: scene.own(matrix) - beside},
            placebos={name: scene.contrast(view(read)) for name, read in placebos.items()},
            labels=labels,
        )

    legs = leg(AT_PATCHES, lambda read: read[0]), leg(LOCAL, lambda read: read[0] - read[1])
    return ExperimentResult(
        "vision.logit_lens_segments",
        f"{len(items)} pictures, one segment each",
        legs,
        (ADAPTER, report, *_notes(job)),
        provenance=provenance,
    )


def read_patches(
    job: Job,
    name: str,
    items: Sequence[SegmentItem],
    prompts: Sequence[Prompt],
    names: Sequence[str],
    *,
    height: bool = True,
) -> Float[Tensor, "side layer item key"]:
    """Log of the mean probability of every name over the patches inside and outside each item's segment.

    Without `height`, only the differences between a side's names count. At a single patch these are read from the
    names' own columns.
    """
    sides = [[job.places(item.inside), job.places(item.outside)] for item in items]
    positions = [[*inside, *outside] for inside, outside in sides]
    sizes = [len(side) for item in sides for side in item]
    if not height and max(sizes) == 1:
        log_probs = job.contrast(job.states_at(name, prompts, positions), (), common=names)
    else:
        targets = [list(names) for listed in positions for _ in listed]
        log_probs = job.lens(name, list(prompts), targets, read_at=positions)
    means = [patches.logsumexp(1) - math.log(patches.shape[1]) for patches in log_probs.split(sizes, dim=1)]
    return rearrange(means, "(item side) layer key -> side layer item key", side=2)


class _Scene:
    """Each item's own name, the other names its picture shows, and the names it does not show."""

    def __init__(self, items: Sequence[SegmentItem], names: Sequence[str]) -> None:
        self.key = torch.tensor([names.index(item.label) for item in items])
        shown = torch.tensor([[name in item.present for name in names] for item in items])
        if bool(shown.all(1).any()):
            raise SemhubError(f"One picture shows all {len(names)} labels, so there is none to compare with.")
        self._absent = (~shown).float()
        self._beside = shown.float().scatter(1, self.key[:, None], 0.0)

    def own(self, matrix: Float[Tensor, "layer item key"]) -> Float[Tensor, "layer item"]:
        return matrix[:, torch.arange(len(self.key)), self.key]

    def absent(self, matrix: Float[Tensor, "layer item key"]) -> Float[Tensor, "layer item"]:
        return _mean_of(matrix, self._absent)

    def beside(self, matrix: Float[Tensor, "layer item key"]) -> Float[Tensor, "layer item"] | None:
        """Mean over the picture's other labels; None if some picture has no other label."""
        return _mean_of(matrix, self._beside) if bool(self._beside.any(1).all()) else None

    def contrast(self, matrix: Float[Tensor, "layer item key"]) -> tuple[Float[Tensor, "layer item"], NullDraw]:
        """The own label's score over that of absent labels; the null exchanges the labels."""
        return paired_contrast(matrix, self.key, self.absent(matrix))


def _mean_of(matrix: Float[Tensor, "layer item key"], chosen: Float[Tensor, "item key"]) -> Float[Tensor, "layer item"]:
    """Mean over each item's chosen keys, which is exact if their scores are equal."""
    sums = einsum(matrix.double(), chosen.double(), "layer item key, item key -> layer item")
    return (sums / chosen.sum(1)).to(matrix.dtype)


def _notes(job: Job) -> tuple[str, ...]:
    masks = (
        "Masks are transposed (y taken for x), as in the reference code."
        if job.paper
        else "Masks and patches are row-major (y, then x); the reference code transposes its masks."
    )
    return (
        f"{masks} Pictures are in the middle of a white square, so that no processor crops or stretches them.",
        "Patches see more of the picture than they cover, through attention or receptive fields in the encoder (in "
        "a spoke also the mean of all regions). Later positions also read earlier ones. A missing local effect may "
        "therefore be blur.",
    )
