"""The explorer: seconds from a typed prompt until the lens is on its way to the page, and until the text is too."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import semhub_lens as shl
from benchmarks.lens import products, states_of
from benchmarks.table import Row, in_turn

TOKENS, NEW = 12, 12


class Front:
    def __init__(self) -> None:
        self.asked: dict[str, Any] = {"prompt": ""}

    def observe(self, act: Any, names: str) -> None:
        """Call this when something is asked."""
        self.act = act

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "asked" and hasattr(self, "act"):
            self.act(None)


def prompts(model: Any, tokens: int) -> Iterator[str]:
    """Texts of so many tokens, each another one, because an explorer reads a prompt once."""
    texts = map(" ".join, itertools.product(("two", "five", "red", "dog"), repeat=tokens - 1))
    return (text for text in texts if len(shl.Prompt.from_text(model, text)) == tokens)


def measure(model: Any = None, *, tokens: int = TOKENS, rounds: int = 3) -> list[Row]:
    """A lens alone, and with a continuation, which follows the lens."""
    model = shl.load("gemma-3-270m", backend="bridge") if model is None else model
    texts, explorer = prompts(model, tokens), shl.Explorer(model, Front())
    states = states_of(model, shl.Prompt.from_text(model, next(texts)))

    def answer(new: int) -> Callable[[], object]:
        return lambda: explorer.ask(prompt=next(texts), new_tokens=new).wait(600.0)

    sides = {"lens": answer(0), "text": answer(NEW), "floor": products(model.W_U, states.flatten(0, 1))}
    took = in_turn(sides, rounds)
    size = f"{len(states)} layers x {tokens} tokens"
    return [
        Row(f"`explore`, {size}, lens", took["lens"], floor=took["floor"], bar="1.5 s"),
        Row(f"`explore`, {size}, lens and {NEW} new tokens", took["text"], note="the lens comes first"),
    ]
