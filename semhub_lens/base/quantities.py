"""Results with the quantities that were requested: by name, and as attributes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from semhub_lens.base.arguments import nearest
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Result


@dataclass(frozen=True, eq=False)
class Quantities(Result):
    """A result with its quantities in one mapping, so that a new quantity needs no new field.

    Raises:
        SemhubError: a quantity is read that was not measured; the message says how to request it.
    """

    measured: Mapping[str, Tensor] = field(default_factory=dict, kw_only=True)
    """The measured quantities by name; `result.entropy` is `result.measured["entropy"]`."""

    ask: ClassVar[Mapping[str, str]]
    """Every possible quantity of the class, and the argument that requests it."""

    def __getattr__(self, name: str) -> Tensor:
        if name != "measured" and not name.startswith("_") and name in self.measured:
            return self.measured[name]
        if name in type(self).ask:
            raise SemhubError(f"{name!r} was not measured: request it with {self.ask[name]}.")
        meant = "" if name == "measured" or name.startswith("_") else nearest(name, dir(self))
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{meant}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.measured]

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Any:
        """Files of 0.1.0 store every quantity as a separate field."""
        quantities = {name: fields[name] for name in fields.keys() & cls.ask.keys()}
        others = {name: value for name, value in fields.items() if name not in quantities}
        return super().from_fields({"measured": quantities} | others)
