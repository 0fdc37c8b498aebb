"""What a page shows as code: the library's own calls. A bare name stands for what no code can write."""

from collections.abc import Mapping, Sequence
from typing import Any

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance, same_weights
from semhub_lens.lens.attribution import AttributionResult
from semhub_lens.lens.comparison import NOTHING, Align, LensComparison, compare
from semhub_lens.lens.logit_lens import STANDARD, LensResult

OWN = {
    "prompt": "with its pictures, sound or embeddings",
    "hooks": "the interventions of that run",
    "readout": "how that run was read",
}
"""Arguments that are objects of the user's, and what they are."""


def code_of(result: LensResult | LensComparison, media: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Lines that make the result, and `media` above it, and the `name` under which they leave it."""
    needs: list[str] = []
    if isinstance(result, LensComparison):
        return {"name": "comparison", "lines": _whole(needs, _both(result, needs))}
    lines = _lens(result, "lens", {}, needs)
    if media is None:
        return {"name": "lens", "lines": _whole(needs, lines)}
    return {"name": "view", "lines": _whole(needs, [*lines, _map(result, media, needs)])}


def code_of_saved(name: str) -> dict[str, str]:
    """The same of a result that no call can make again: from the file in which it was saved."""
    return {"name": name, "lines": _whole([], [_loaded(name)])}


def _whole(needs: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join(["import semhub_lens as shl", "", *(f"# {one}" for one in dict.fromkeys(needs)), *lines])


def _loaded(name: str) -> str:
    return f'{name} = shl.load_result("{name}.safetensors")  # written by {name}.save("{name}.safetensors")'


def _lens(result: LensResult, name: str, called: Mapping[str, str], needs: list[str]) -> list[str]:
    """The calls of one lens; `called` tells what is given to it from what is given to another."""
    if result.call is None:
        return [_loaded(name)]
    own = {one: called.get(one, one) for one in OWN if result.call.get(one) == one}
    model, table = called.get("model", "model"), called.get("table", "table")
    needs.append(_model(model, result.provenance))
    needs += [f"{called_so}: {OWN[one]}" for one, called_so in own.items()]
    settings = {**result.call, **own}
    prompt = settings.pop("prompt", None) or repr(result.token_ids.tolist())
    known = [f"{key}={value}" for key, value in {**_reading(result), **settings}.items()]
    if result.token_languages is not None:
        needs.append(f"{table}: of the languages {', '.join(result.languages)}")
        known.append(f"table={table}")
    hooks = f", hooks={settings['hooks']}" if "hooks" in settings else ""
    wrote = [_attributed(one, name, f"{model}, {prompt}", hooks) for one in result.attributions]
    return [f"{name} = shl.logit_lens({', '.join([model, prompt, *known])})", *wrote]


def _model(name: str, made: Provenance) -> str:
    return f"{name}: {made.model}, {made.model_class}, {made.dtype}, processing {made.processing}"


def _reading(result: LensResult) -> dict[str, str]:
    """The settings of `logit_lens` that are seen in what was measured and are not its own."""
    stored = next((result.measured[name].shape[-1] for name in STANDARD[:2] if name in result.measured), 10)
    found = {} if stored == 10 else {"top_k": repr(stored)}
    found |= {} if {*result.measured} == {*STANDARD} else {"quantities": repr([*result.measured])}
    return found | ({"layers": repr([*result.layers])} if result.layers else {})


def _attributed(found: AttributionResult, name: str, read: str, hooks: str) -> str:
    heads = f", by_head={[*found.head_blocks]}" if found.head_blocks else ""
    where = f"token={[*found.token_ids]}, position={found.position}"
    return f"{name} = {name}.with_attribution(shl.direct_attribution({read}, {where}{heads}{hooks}))"


def _both(result: LensComparison, needs: list[str]) -> list[str]:
    a, b, align = result.a, result.b, _align(result)
    if a.call is None or b.call is None or align is None:
        return [_loaded("comparison")]
    apart = [one for one in OWN if a.call.get(one) == b.call.get(one) == one]
    apart += ["model"] * (not same_weights(a.provenance, b.provenance))
    apart += ["table"] * (bool(apart[-1:] == ["model"]) or a.languages != b.languages)
    lines = [line for name, side in (("a", a), ("b", b))
             for line in _lens(side, name, {one: f"{one}_{name}" for one in apart}, needs)]  # fmt: skip
    how = "" if align == "start" else f", align={align!r}"
    return [*lines, f"comparison = shl.compare(a, b, names={result.names!r}{how})"]


def _align(result: LensComparison) -> Align | None:
    """What gives these columns; None where nothing does that is tried."""
    for align in ("start", "end", _spans(result.columns)):
        try:
            found = compare(result.a, result.b, align=align)
        except SemhubError:
            continue
        if found.columns == result.columns:
            return align
    return None


def _spans(columns: Sequence[tuple[int, int]]) -> list[tuple[list[int], list[int]]]:
    """The runs of columns in which both sides have a position."""
    spans: list[tuple[list[int], list[int]]] = []
    for before, (one, two) in zip([(NOTHING, NOTHING), *columns], columns, strict=False):
        if NOTHING in (one, two):
            continue
        if not spans or NOTHING in before:
            spans.append(([], []))
        spans[-1][0].append(one)
        spans[-1][1].append(two)
    return spans


def _map(result: LensResult, media: Mapping[str, Any], needs: list[str]) -> str:
    """The call that shows what was seen or heard above a lens."""
    kind = media["parts"][0]["kind"]
    given = {"sound": "positions, times, sound", "picture": "picture, tile"}[kind]
    needs.append(f"{given}: as in this page")
    return f"view = shl.{kind}_map(lens, {given}, layer={result.entries[media['layer']]})"
