r"""Sweeps of steering: every layer with every strength, with controls, item by item.

$$e_{c \ell s i} = m_i(\text{condition } c \text{ at layer } \ell \text{ with strength } s) - m_i(\text{clean})$$

A cell is kept as soon as it is measured, so a killed sweep continues where it stopped. A sweep shows that a direction
is enough to move a score, not that the model uses it. Some directions move a score by chance. One random direction
cannot show this, so use several (`Controls(random=8)`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.base.progress import tqdm
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.base.shown_text import harmless
from semhub_lens.base.store import Store
from semhub_lens.interventions.direction import random_like, rescaled
from semhub_lens.interventions.hooks import add
from semhub_lens.interventions.positions import Positions, as_positions
from semhub_lens.interventions.sweep_result import FLIPPED, LAST, RANDOM, STEERED, UNRELATED, SweepResult
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import Hooks, residual_names

Measure = Callable[[Hooks], Mapping[str, Float[Tensor, " item"]]]
"""`hooks -> {name: score of every item}`; `steering_scores` has some. It is called without hooks for the clean run."""
Direction = Callable[[int], Float[Tensor, "*item d_model"]]
"""`layer -> direction`, one `[d_model]` or one for each item `[item d_model]`."""
Recipe = Callable[[Tensor, float, int], Hooks]
"""`(direction, strength, layer) -> hooks`; `layer` is a residual entry, including the last one."""


@checked
@dataclass(frozen=True)
class Controls:
    """The controls of a `sweep`."""

    random: int = 1
    """The number of random directions of the same norm (one per item if each item has its own direction)."""
    flipped: bool = True
    """The same direction with its sign flipped."""
    unrelated: Direction | None = None
    """A direction that should have no effect; it is rescaled to the same norm."""
    last_layer: bool = True
    """The same vector at the last residual entry: its effect on the output without any block after it."""
    seed: int = 0
    """The seed of the random directions; draw k at layer l has the seed `seed + 1000 k + l`."""

    def __post_init__(self) -> None:
        if self.random < 0:
            raise SemhubError(f"Controls(random=...) is the number of random directions, got {self.random}.")
        generator(self.seed)


@checked
def adding(model: Model, positions: Positions = -1) -> Recipe:
    r"""The default recipe of a sweep: add strength times the direction at a residual entry, at some positions.

    $h_{\ell,p} \leftarrow h_{\ell,p} + s\,v_\ell$

    Args:
        model: any TransformerLens model.
        positions: the positions; see `Positions`.

    Returns:
        A function `(direction, strength, layer) -> hooks`.

    Raises:
        SemhubError: not a TransformerLens model, or positions of another form.

    Example:
        >>> recipe = adding(tiny_model)
        >>> [name for name, _ in recipe(torch.ones(tiny_model.cfg.d_model), 2.0, 1)]
        ['blocks.1.hook_resid_pre']
    """
    names, where = residual_names(model), as_positions(positions)

    def recipe(direction: Tensor, strength: float, layer: int) -> Hooks:
        each = "item" if direction.ndim == 2 else "position"
        return [(names[layer], add(direction, strength, where, each=each))]

    return recipe


@checked
def sweep(
    model: Model,
    measure: Measure,
    direction: Direction,
    layers: Sequence[int],
    strengths: Sequence[float],
    *,
    recipe: Recipe | None = None,
    controls: Controls | None = None,
    damage: Sequence[str] = (),
    name: str = "sweep",
    provenance: Provenance | None = None,
    store: Store | None = None,
    progress: bool = True,
) -> SweepResult:
    r"""Measure items with an intervention at every layer and strength, and with its controls.

    $$e_{c \ell s i} = m_i(\text{condition } c \text{ at layer } \ell \text{ with strength } s) - m_i(\text{clean})$$

    A sweep shows that a direction is enough to move a score, not that the model uses it.

    Args:
        model: any TransformerLens model.
        measure: runs all items with hooks and returns named scores, one number per item.
        direction: gives the direction for a residual entry (0 = embedding, the last one = after the last block).
        layers: residual entries.
        strengths: factors of the direction, above 0; the clean run is 0.
        recipe: makes the hooks for a direction; None adds it at the last position of the prompt (`adding`).
        controls: None measures a random direction, the flipped one and the last layer.
        damage: the names of scores that measure damage (higher is worse); the others are effects.
        name: of the kept parts; each sweep in a store needs its own name.
        provenance: provenance with the data's name and hash; None describes the model.
        store: the store for finished cells; None keeps nothing. The store's settings must include everything that
            `measure` and `recipe` depend on; the directions are part of a cell's name.
        progress: show a progress bar.

    Returns:
        Scores `[condition layer strength item]`, with `.effect`, `.contrast` and `.choose`.

    Raises:
        SemhubError: layers or strengths that are empty, repeated or out of range; directions that match neither the
            model nor the items; scores whose names or lengths change; an unknown damage score.

    Source: layer x strength grids as in Turner et al. 2023 (ActAdd) and Rimsky et al. 2024 (CAA).

    Example:
        >>> texts = ["three plus", "dog", "red cat", "five"]
        >>> score = steering_scores.next_token(tiny_model, texts, {"two": "two"}, progress=False)
        >>> vector = lambda layer: direction.words(tiny_model, "two", "five", layer)
        >>> result = sweep(tiny_model, score, vector, [1, 2], [1.0, 2.0], progress=False)
        >>> result.effect("two").shape, result.contrast("two", "flipped").shape  # [layer strength item]
        (torch.Size([2, 2, 4]), torch.Size([2, 2, 4]))
        >>> result.choose("two").layer in (1, 2)
        True
    """
    controls, store = controls or Controls(), store or Store()
    recipe = recipe or adding(model)
    last = len(residual_names(model)) - 1
    layers = [whole_number(layer, "A layer") for layer in layers]
    strengths = [one.item() if isinstance(one, Tensor) and not one.ndim else one for one in strengths]
    _check_grid(layers, strengths, controls, last)
    vectors = _vectors(model, direction, layers, controls)
    cells = _Cells(measure, store, name)
    clean = cells.clean()
    items = clean.shape[1]
    _check_items(vectors, items, cells.names, damage)
    conditions = list(vectors)
    scores = torch.empty(len(conditions), len(layers), len(strengths), *clean.shape, dtype=torch.float32)
    keys: dict[tuple[int, int, int], str] = {}
    hooks: dict[str, Callable[[], Hooks]] = {}
    for c, condition in enumerate(conditions):
        for i, layer in enumerate(layers):
            vector, entry = vectors[condition][i], last if condition == LAST else layer
            for j, strength in enumerate(strengths):
                keys[c, i, j] = f"{entry}-{float(strength)!r}-{fingerprint(vector)}"
                hooks.setdefault(keys[c, i, j], partial(recipe, vector, strength, entry))
    bar = tqdm(cells.each(hooks), total=len(hooks), desc=harmless(name), unit="cell", disable=not progress, leave=False)
    found = dict(zip(hooks, bar, strict=True))
    for place, key in keys.items():
        scores[place] = found[key]
    return SweepResult(
        conditions=tuple(conditions),
        layers=tuple(layers),
        strengths=tuple(float(strength) for strength in strengths),
        names=cells.names,
        damage=tuple(damage),
        clean=clean,
        scores=scores,
        norms=torch.stack([vector.norm(dim=-1).expand(items) for vector in vectors[STEERED]]),
        provenance=provenance or provenance_of(model, seed=controls.seed),
    )


class _Cells:
    """Measured cells by name, kept in the store."""

    def __init__(self, measure: Measure, store: Store, name: str) -> None:
        self._measure, self._store, self._name = measure, store, name
        self.names: tuple[str, ...] = ()

    def clean(self) -> Float[Tensor, "score item"]:
        """The clean run, measured first and once."""
        run = cache(lambda: _checked(self._measure(())))
        self.names = tuple(self._store.rows(f"{self._name}-names", lambda: list(run())))
        return self._store.tensor(f"{self._name}-clean", lambda: self._stacked(run()))

    def each(self, hooks: Mapping[str, Callable[[], Hooks]]) -> Iterator[Float[Tensor, "score item"]]:
        """The scores of cells with their hooks, which are made only if the cell is missing."""
        return self._store.each([(f"{self._name}-{key}", partial(self._under, made)) for key, made in hooks.items()])

    def _under(self, hooks: Callable[[], Hooks]) -> Float[Tensor, "score item"]:
        return self._stacked(_checked(self._measure(hooks())))

    def _stacked(self, measured: Mapping[str, Tensor]) -> Float[Tensor, "score item"]:
        shapes = {tuple(values.shape) for values in measured.values()}
        if tuple(measured) != self.names or len(shapes) != 1 or len(next(iter(shapes))) != 1:
            got = ", ".join(f"{name!r} {tuple(values.shape)}" for name, values in measured.items())
            raise SemhubError(
                "A measure must return the same scores in every run, one number per item: expected "
                f"{', '.join(map(repr, self.names)) or 'at least one'}, got {got or 'none'}."
            )
        return torch.stack([values.detach().float().cpu() for values in measured.values()])


def _checked(measured: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if not isinstance(measured, Mapping) or not all(
        isinstance(values, Tensor) and not values.is_complex() for values in measured.values()
    ):
        raise SemhubError(
            f"A measure must return {{name: tensor [item]}}, it returned {type(measured).__name__} {measured!r}."
        )
    return measured


def _check_grid(layers: Sequence[int], strengths: Sequence[float], controls: Controls, last: int) -> None:
    if not layers or len(set(layers)) < len(layers) or not all(0 <= layer <= last for layer in layers):
        raise SemhubError(f"layers must be different residual entries from 0 to {last}, got {list(layers)}.")
    if not all(isinstance(strength, Real) for strength in strengths):
        raise SemhubError(f"strengths must be numbers, got {list(strengths)}.")
    if not strengths or len(set(strengths)) < len(strengths) or not all(0 < s < float("inf") for s in strengths):
        raise SemhubError(
            f"strengths must be different numbers above 0, got {list(strengths)}. 0 is the clean run, which is always "
            "measured, and negative ones are the control `flipped`."
        )


def _vectors(
    model: Model, direction: Direction, layers: Sequence[int], controls: Controls
) -> dict[str, list[Float[Tensor, "*item d_model"]]]:
    """For each condition, the vector of every layer."""
    d_model = int(model.cfg.d_model)
    steered = [_vector(direction(layer), layer, d_model) for layer in layers]
    vectors = {STEERED: steered}
    for draw in range(controls.random):
        vectors[RANDOM if draw == 0 else f"{RANDOM} {draw + 1}"] = [
            random_like(vector, seed=controls.seed + 1000 * draw + layer)
            for layer, vector in zip(layers, steered, strict=True)
        ]
    if controls.flipped:
        vectors[FLIPPED] = [-vector for vector in steered]
    if controls.unrelated is not None:
        unrelated = [_vector(controls.unrelated(layer), layer, d_model) for layer in layers]
        vectors[UNRELATED] = [_matched(other, vector) for other, vector in zip(unrelated, steered, strict=True)]
    if controls.last_layer:
        vectors[LAST] = steered
    return vectors


def _vector(vector: Tensor, layer: int, d_model: int) -> Float[Tensor, "*item d_model"]:
    alike = isinstance(vector, Tensor) and vector.ndim in (1, 2) and vector.shape[-1] == d_model
    if not alike or vector.is_complex():
        got = f"shape {tuple(vector.shape)} ({vector.dtype})" if isinstance(vector, Tensor) else type(vector).__name__
        raise SemhubError(
            f"The direction of layer {layer} has {got}, expected a tensor [{d_model}] or [item {d_model}]."
        )
    vector = vector.detach().float().cpu()
    if not torch.isfinite(vector).all() or bool((vector.norm(dim=-1) == 0).any()):
        raise SemhubError(
            f"The direction of layer {layer} is 0, NaN or infinite (for some item). At the embedding (layer 0), texts "
            "that end in the same token have equal states; leave it out."
        )
    return vector


def _matched(other: Tensor, vector: Tensor) -> Float[Tensor, "*item d_model"]:
    """An unrelated direction with the norm and shape of the steered one."""
    if other.ndim > vector.ndim:
        raise SemhubError("The unrelated direction has one vector per item, but the direction itself has one for all.")
    return rescaled(other.expand_as(vector), vector)


def _check_items(vectors: Mapping[str, list[Tensor]], items: int, names: Sequence[str], damage: Sequence[str]) -> None:
    for vector in vectors[STEERED]:
        if vector.ndim == 2 and len(vector) != items:
            raise SemhubError(f"There are directions for {len(vector)} items, but the measure has scores for {items}.")
    if unknown := [name for name in damage if name not in names]:
        raise SemhubError(f"Unknown damage score(s) {unknown}; the measure returns {', '.join(names)}.")
