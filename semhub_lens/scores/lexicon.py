r"""Sentiment from a word list: the mean valence of the listed words in a text.

$$s(x) = \frac{1}{|M(x)|} \sum_{m \in M(x)} v(m)$$

with the matches M(x), found from the left, longest entry first, and the list's valences v. Negation, irony and word
order are ignored, and so are words that are not in the list.

Source: Nielsen 2011 (AFINN); lists of the same form exist for many languages.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path
from semhub_lens.scores.inputs import as_texts

UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Kana and Chinese characters: they are written without spaces, so each is a separate unit."""
UNIT = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")
LARGEST = 5
Units = tuple[str, ...]


@checked
def lexicon_sentiment(texts: str | Sequence[str], lexicon_path: str | Path) -> Float[Tensor, " item"]:
    """Return the mean valence (-5 to 5) of the lexicon's words in each text; NaN if none occurs.

    Entries of several words, emoticons and texts without spaces (Chinese, Japanese) are matched by the longest entry.
    Case and width are ignored; entries that differ only in these share the mean of their valences. Negation and irony
    are ignored too.

    Args:
        texts: the texts.
        lexicon_path: a JSON file with an object of word -> valence from -5 to 5, such as AFINN.

    Returns:
        One number per text.

    Raises:
        SemhubError: no texts; no such file, not such an object, a blank entry, or a valence outside -5 to 5.

    Example:
        >>> import json, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "en.json"
        >>> _ = path.write_text(json.dumps({"good": 3, "no good": -2, "好": 3}))
        >>> lexicon_sentiment(["A good day", "This is no good", "很好！", "A day"], path)
        tensor([ 3., -2.,  3., nan])
    """
    listed, lexicon = as_texts(texts), _read(user_path(lexicon_path))
    longest = max(map(len, lexicon))
    return torch.tensor([_mean(_matches(_units(text), lexicon, longest)) for text in listed], dtype=torch.float32)


def _units(text: str) -> Units:
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return tuple(UNIT.findall(plain))


def _matches(units: Units, lexicon: Mapping[Units, float], longest: int) -> list[float]:
    valences, start = [], 0
    while start < len(units):
        ends = range(min(len(units), start + longest), start, -1)
        end = next((end for end in ends if units[start:end] in lexicon), None)
        if end is not None:
            valences.append(lexicon[units[start:end]])
        start = end or start + 1
    return valences


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _read(path: Path) -> dict[Units, float]:
    if not path.is_file():
        raise SemhubError(f"No lexicon at {path}; expected a JSON file of word -> valence.")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SemhubError(f"The lexicon {path} is not JSON in UTF-8: {error}") from error
    if not isinstance(entries, dict) or not entries:
        raise SemhubError(f"The lexicon {path} must be an object of word -> valence with at least one entry.")
    valences: dict[Units, list[float]] = {}
    for word, valence in entries.items():
        if isinstance(valence, bool) or not isinstance(valence, int | float) or not abs(valence) <= LARGEST:
            raise SemhubError(f"The lexicon {path} gives {word!r} the valence {valence!r}; expected -5 to 5.")
        units = _units(word)
        if not units:
            raise SemhubError(f"The lexicon {path} has a blank entry {word!r}; remove it.")
        valences.setdefault(units, []).append(float(valence))
    return {units: _mean(listed) for units, listed in valences.items()}
