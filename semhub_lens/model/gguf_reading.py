"""Read a GGUF file only once: transformers opens it again for the config, the tokenizer and the weights.

Its reader takes each word of a vocabulary as a slice of a memory map, which is twenty times slower than a plain slice.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import cache
from typing import Any
from unittest.mock import patch


@contextmanager
def read_once() -> Iterator[None]:
    """While open, transformers reads each GGUF file only once."""
    import gguf
    import numpy as np
    from transformers import modeling_gguf_pytorch_utils

    class PlainReader(gguf.GGUFReader):
        @property
        def data(self) -> Any:
            return self.plain

        @data.setter
        def data(self, mapped: Any) -> None:
            self.plain = mapped.view(np.ndarray)  # the same pages of the file, without what a map does at each slice

    load: Callable[..., dict[str, Any]] = modeling_gguf_pytorch_utils.load_gguf_checkpoint
    reader, facts = cache(PlainReader), cache(load)

    def loaded(path: str, return_tensors: bool = False, **settings: Any) -> dict[str, Any]:
        if return_tensors:
            return load(path, return_tensors=True, **settings)
        return deepcopy(facts(path))

    with ExitStack() as stack:
        stack.enter_context(patch.object(gguf, "GGUFReader", reader))
        stack.enter_context(patch.object(modeling_gguf_pytorch_utils, "load_gguf_checkpoint", loaded))
        yield
