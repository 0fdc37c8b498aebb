"""A prefix that many rows share: the keys and values of one prompt's first positions, in a cache that never grows.

Activation patching runs many copies of one prompt, each changed from some position on. Before that position, keys and
values are those of the unchanged prompt. The copies may join the batch in the middle of a pass, so each layer accepts
any number of rows.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

KEPT = "conv1d_state"
"""Where the recurrent blocks of RecurrentGemma keep a state between passes, beside the cache."""


class SharedEntry:
    """A layer's prefix as a `HookedTransformer` reads it."""

    def __init__(
        self, keys: Float[Tensor, "one pos head d_head"], values: Float[Tensor, "one pos head d_head"]
    ) -> None:
        self.past_keys = keys
        self.past_values = values

    def append(self, new_keys: Tensor, new_values: Tensor) -> tuple[Tensor, Tensor]:
        """The prefix before each row's own keys and values; nothing is stored."""
        return _behind(self.past_keys, new_keys, 1), _behind(self.past_values, new_values, 1)


class SharedLayer(DynamicLayer):
    """A layer's prefix as a Hugging Face model reads it."""

    def __init__(
        self, keys: Float[Tensor, "one head pos d_head"], values: Float[Tensor, "one head pos d_head"]
    ) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self._prefix = (keys, values)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The prefix before each row's own keys and values; nothing is stored."""
        return _behind(self._prefix[0], key_states, 2), _behind(self._prefix[1], value_states, 2)


def _behind(prefix: Tensor, new: Tensor, axis: int) -> Tensor:
    return torch.cat([prefix.expand(len(new), -1, -1, -1), new], dim=axis)


def whole_cache(config: Any, n_layers: int) -> DynamicCache | None:
    """An empty Hugging Face cache that keeps every position, also those behind a sliding window.

    None where keys and values of attention are not all that a prefix leaves behind, or layers share them.
    """
    layers = DynamicCache(config=config).layers
    attention = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    return DynamicCache() if attention and len(layers) == n_layers else None


def forget_states(inner: Any) -> None:
    """Let a Hugging Face model begin a text with a new cache, whatever ran before.

    A first pass of one token would go on from the states that blocks have kept from another text.
    """
    for part in inner.modules():
        if KEPT in vars(part):
            setattr(part, KEPT, None)


def shared_prefix(cache: Any, columns: int) -> Any:
    """The first `columns` positions of a recorded one-row cache, for any number of rows."""
    if isinstance(cache, Cache):
        layers: list[Any] = cache.layers
        return Cache(layers=[SharedLayer(one.keys[:, :, :columns], one.values[:, :, :columns]) for one in layers])
    entries = [SharedEntry(one.past_keys[:, :columns], one.past_values[:, :columns]) for one in cache.entries]
    return type(cache)(entries, cache.previous_attention_mask[:, :columns], frozen=True)
