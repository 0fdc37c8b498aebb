r"""The projector: encoder features to a few vectors of the residual stream's width.

$$e_j = s\,\frac{p_j}{\lVert p_j \rVert}, \qquad p = W_2 \operatorname{gelu}(W_1 \operatorname{norm}(x) + b_1) + b_2$$

Each feature in x is standardised (with mean and deviation over the training data), because an encoder's layers have
different scales. Every vector has the norm s, the mean norm of a text token at the input of block 0.

With codes, one for each training name, the vectors are mixtures of the codes' vectors, weighted by a classifier C of
names:

$$p = W_2 \operatorname{softmax}(C \operatorname{gelu}(W_1 \operatorname{norm}(x) + b_1) + c) + b_2$$
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path, write_aside
from semhub_lens.base.fingerprints import tensors_sha256
from semhub_lens.base.rng import generator


@checked
@dataclass(frozen=True)
class Shape:
    """Sizes of a projector."""

    chunks: int
    """The number of feature vectors of one picture or clip."""
    d_in: int
    d_model: int
    hidden: int = 512
    embeddings: int = 4
    """The number of vectors in the residual stream; one for each chunk if the projector is not joint."""
    joint: bool = True
    """True: an MLP on all chunks makes all vectors. False: one MLP makes each chunk's vector, from that chunk and the
    mean of all, so that each region of a picture corresponds to a position of the prompt.
    """
    standardised: bool = False
    """Whether features are standardised first."""
    codes: int = 0
    """If above 0: a softmax over this number of codes (one for each training name) follows the hidden layer, and every
    vector is a mixture of the codes' vectors (Lu et al. 2024, Ovis: a table of visual embeddings).
    """
    rank: int = 0
    """If above 0, with codes: a code has this many numbers, and one linear map makes vectors from them; a smaller
    table.
    """

    def __post_init__(self) -> None:
        sizes = [self.chunks, self.d_in, self.d_model, self.hidden, self.embeddings]
        if min(sizes) < 1 or min(self.codes, self.rank) < 0:
            raise SemhubError(f"The sizes of a projector are at least 1, its codes and rank at least 0; got {self}.")
        if not self.joint and self.embeddings != self.chunks:
            raise SemhubError(
                f"A projector with joint=False gives one embedding for each of the {self.chunks} chunks, not "
                f"{self.embeddings}."
            )
        if self.rank and not self.codes:
            raise SemhubError(f"rank={self.rank} reduces the table of codes, but there are no codes.")

    @property
    def entering(self) -> int:
        """The length of the MLP's input."""
        return self.d_in * (self.chunks if self.joint else 2)

    @property
    def leaving(self) -> int:
        """The length of the MLP's output."""
        return self.d_model * (self.embeddings if self.joint else 1)


@checked
class Projector(nn.Module):
    """A two-layer perceptron from features to vectors of one fixed norm.

    Args:
        shape: sizes.
        scale: the norm of every output vector.
        seed: for the initial weights.

    Example:
        >>> from semhub_lens.spokes.projector import Projector, Shape
        >>> projector = Projector(Shape(chunks=2, d_in=5, d_model=8, embeddings=3), scale=2.0)
        >>> projector(torch.arange(10.0).reshape(1, 2, 5)).norm(dim=-1)[0].round(decimals=4).tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(self, shape: Shape, scale: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.norm = nn.LayerNorm(shape.entering)
        self.enter = nn.Linear(shape.entering, shape.hidden)
        self.code = nn.Linear(shape.hidden, shape.codes) if shape.codes else None
        self.table = nn.Linear(shape.codes, shape.rank, bias=False) if shape.rank else None
        self.leave = nn.Linear(shape.rank or shape.codes or shape.hidden, shape.leaving)
        self.place = nn.Parameter(torch.zeros(shape.embeddings, shape.d_model, dtype=torch.float32))
        if scale <= 0:
            raise SemhubError(f"scale= is the norm of the vectors that come out, above 0; got {scale}.")
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float32))
        if shape.standardised:
            self.mean: Tensor
            self.deviation: Tensor
            self.register_buffer("mean", torch.zeros(shape.d_in, dtype=torch.float32))
            self.register_buffer("deviation", torch.ones(shape.d_in, dtype=torch.float32))
        self.float()  # whatever the default dtype is
        rng = generator(seed)
        with torch.no_grad():
            for layer in filter(None, (self.enter, self.leave, self.code, self.table)):
                layer.weight.normal_(0.0, layer.in_features**-0.5, generator=rng)
                if layer.bias is not None:
                    layer.bias.zero_()

    @checked
    def standardise(self, features: Float[Tensor, "item chunk d"]) -> None:
        """Set the mean and deviation of each feature from these.

        Raises:
            SemhubError: features of another encoder, fewer than two vectors, or a shape that is not standardised.
        """
        self._require(features)
        if not self.shape.standardised or features[..., 0].numel() < 2:
            raise SemhubError(
                "Mean and deviation need at least two vectors and a Shape with standardised=True, got the shape "
                f"{tuple(features.shape)} and standardised={self.shape.standardised}."
            )
        each = features.float().flatten(0, -2)
        self.mean.copy_(each.mean(0))
        self.deviation.copy_(each.std(0).clamp(min=1e-3))

    def _require(self, features: Tensor) -> None:
        expected = self.shape.chunks, self.shape.d_in
        if tuple(features.shape[1:]) != expected:
            raise SemhubError(
                f"The projector reads features [item chunk d] with {expected[0]} chunks and d={expected[1]}, got the "
                f"shape {tuple(features.shape)}."
            )

    @checked
    def forward(
        self, features: Float[Tensor, "item chunk d"], dropout: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "item embedding d_model"]:
        """Vectors for the residual stream; `dropout` multiplies the hidden layer.

        Raises:
            SemhubError: features of another encoder.
        """
        hidden = self.hidden(features)
        hidden = hidden if dropout is None else hidden * dropout
        return self.vectors(hidden if self.code is None else self.code(hidden).softmax(-1))

    @checked
    def shares(self, features: Float[Tensor, "item chunk d"]) -> Float[Tensor, "... code"]:
        """The share of each code in the mixtures: [item code], or [item chunk code] if not joint.

        Raises:
            SemhubError: the projector has no codes, or features of another encoder.
        """
        if self.code is None:
            raise SemhubError("A projector without codes has no shares; make its Shape with codes.")
        return self.code(self.hidden(features)).softmax(-1)

    def vectors(self, mixed: Float[Tensor, "..."]) -> Float[Tensor, "item embedding d_model"]:
        """Vectors for the residual stream from the hidden layer or, with codes, from their shares."""
        out = self.leave(mixed if self.table is None else self.table(mixed))
        out = out.unflatten(-1, (self.shape.embeddings, -1)) if self.shape.joint else out
        return self.scale * nn.functional.normalize(out + self.place, dim=-1)

    @checked
    def hidden(
        self, features: Float[Tensor, "item chunk d"], shown: Sequence[int] | None = None
    ) -> Float[Tensor, "..."]:
        """The hidden layer: [item hidden] for a joint projector, otherwise [item chunk hidden].

        Args:
            features: encoder features; they are standardised here if the shape says so.
            shown: the chunks to use, for a projector that is not joint; None means all.

        Raises:
            SemhubError: features of another encoder, or a chunk that they do not have.
        """
        self._require(features)
        if shown is not None and not all(0 <= chunk < self.shape.chunks for chunk in shown):
            raise SemhubError(f"shown= has chunks from 0 to {self.shape.chunks - 1}, got {list(shown)}.")
        if self.shape.standardised:
            features = (features - self.mean) / self.deviation
        if self.shape.joint:
            x = features.flatten(1)
        else:
            own = features if shown is None else features[:, list(shown)]
            x = torch.cat([own, features.mean(1, keepdim=True).expand_as(own)], dim=-1)
        return nn.functional.gelu(self.enter(self.norm(x)))

    @torch.no_grad()
    def rounded(self) -> "Projector":
        """A copy with weights in half precision (as in files), computing in single precision."""
        copy = Projector(self.shape)
        copy.load_state_dict({k: v.half().float() if v.ndim else v for k, v in self.state_dict().items()})
        return copy.eval()


@checked
@dataclass(frozen=True)
class Card:
    """The origin of a projector, and the model that it belongs to."""

    name: str
    modality: str
    encoder: str
    model: str
    weights: str
    """A hash of the language model, see `layout.unembedding_hash`."""
    vocabulary: str
    """A hash of the tokenizer's vocabulary."""
    settings: Mapping[str, Any]
    """Data and settings of the training, and the last losses."""


@checked
def save_projector(projector: Projector, card: Card, path: str | Path) -> Path:
    """Write weights (half precision), sizes, card and checksum to one safetensors file, complete or not at all.

    Args:
        projector: the projector.
        card: its origin, and the model that it belongs to.
        path: the file to write.

    Returns:
        The path.

    Raises:
        SemhubError: the file cannot be written.

    Example:
        >>> save_projector(projector, card, "eyes.safetensors")  # doctest: +SKIP
    """
    state = projector.state_dict()
    tensors = {k: (v.half() if v.ndim else v).detach().cpu().contiguous() for k, v in state.items()}
    header = {"shape": asdict(projector.shape), "card": asdict(card), "sha256": tensors_sha256(tensors)}
    metadata = {"semhub_lens": json.dumps(header, ensure_ascii=False)}
    return write_aside(user_path(path), lambda aside: save_file(tensors, aside, metadata=metadata))


@checked
def load_projector(path: str | Path) -> tuple[Projector, Card]:
    """Read a projector that `save_projector` wrote.

    Args:
        path: the file.

    Returns:
        The projector, in evaluation mode, and its card.

    Raises:
        SemhubError: no such file, a file of another kind, or weights that do not match their checksum.

    Example:
        >>> projector, card = load_projector("eyes.safetensors")  # doctest: +SKIP
    """
    path = user_path(path)
    if not path.is_file():
        raise SemhubError(f"No projector at {path}; pass a file that save_projector wrote.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["semhub_lens"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        shape, card, expected = Shape(**header["shape"]), Card(**header["card"]), header["sha256"]
    except Exception as error:  # the reader raises its own types on a file of another kind
        raise SemhubError(f"{path} is not a projector that semhub_lens saved: {error}") from error
    if (own := tensors_sha256(tensors)) != expected:
        raise SemhubError(
            f"The projector {path} is corrupted: the SHA-256 of its weights is {own}, expected {expected}."
        )
    projector = Projector(shape)
    projector.load_state_dict({name: value.float() for name, value in tensors.items()})
    return projector.eval(), card
