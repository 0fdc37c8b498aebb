"""Tables from token to language and from token to script, for the mass of a language in a lens distribution.

A table has p(language | token) with a uniform prior over languages. To estimate p(token | language), a language's most
frequent words are tokenised and weighted by their frequency. So pieces of words and characters count too. Tokens that
no listed language uses (digits, punctuation, other languages) count separately, as `unknown`.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import one_hot

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.files import require_folder, write_aside
from semhub_lens.base.fingerprints import fingerprint, tensors_sha256
from semhub_lens.base.progress import tqdm
from semhub_lens.inputs.tokens import token_texts
from semhub_lens.model.facts import Model, require_model
from semhub_lens.model.packaged import CACHE_ADVICE, cache_root

LANGUAGES = ("en", "fr", "es", "de", "zh", "it", "pt", "nl", "ru", "ja", "ko", "ar")
UNKNOWN = "unknown"
SCRIPTS = {
    "LATIN": "latin", "CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana", "HANGUL": "hangul", "ARABIC": "arabic",
    "CYRILLIC": "cyrillic", "GREEK": "greek", "HEBREW": "hebrew", "DEVANAGARI": "devanagari", "THAI": "thai",
}  # fmt: skip
SPLIT = (
    "the", "The", "THE", "understanding", "isn't", "très", "tre\u0300s", "niñas", "Straße", "größer", "İyi", "x2y",
    "1234", "привет", "Москва", "朋友们", "ありがとう", "カタカナ", "안녕하세요", "مرحبا", "שלום", "नमस्ते", "สวัสดี",
    "e-mail", "\n\t",
)  # fmt: skip
"""Words of many scripts, cases and spellings: how a tokenizer splits them tells it from others."""
SHARED_MARKS = ("COMBINING", "VARIATION", "?")
"""First words in the names of marks that combine with letters of any script."""


@checked
@dataclass(frozen=True, eq=False)
class LanguageTable:
    """p(language | token) for every token id; each row sums to 1.

    `language_table` and `script_table` make it.
    """

    languages: tuple[str, ...]
    weights: Float[Tensor, "vocab lang"]
    source: str

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.weights.shape[1] != len(self.languages):
            raise SemhubError(
                f"Expected one column per language {self.languages}, got weights of shape {tuple(self.weights.shape)}."
            )

    @property
    def unknown_share(self) -> float:
        """Mean over the vocabulary's tokens of the `unknown` column."""
        return float(self.weights[:, self.languages.index(UNKNOWN)].mean()) if UNKNOWN in self.languages else 0.0


@checked
def language_table(
    model: Model,
    languages: Sequence[str] = LANGUAGES,
    *,
    words: int = 20_000,
    unknown: Literal["own", "uniform"] = "own",
    progress: bool = True,
) -> LanguageTable:
    r"""Build (once, then from the cache) the table p(language | token) for the model's vocabulary.

    $$p(\ell \mid v) = \frac{p(v \mid \ell)}{\sum_{\ell'} p(v \mid \ell')},\qquad p(v \mid \ell) \propto \sum_w
    f_\ell(w)\, n_v(w)$$

    with the word frequencies $f_\ell$ of the package `wordfreq`, and the count $n_v(w)$ of token v in the word. Each
    word is tokenised in lower case and capitalised, with and without a leading space. For languages in another script,
    words in Latin script are left out. Loanwords and names belong partly to several languages, and Chinese and Japanese
    share characters. A token's language is an estimate from words in isolation, not from its context.

    Args:
        model: its tokenizer and vocabulary size are used.
        languages: ISO 639-1 codes that `wordfreq` has.
        words: the number of most frequent words to use for each language.
        unknown: "own" counts tokens that no language uses in a separate column; "uniform" spreads them evenly over the
            languages, like the reference code of the Semantic Hub paper.
        progress: show a progress bar while building.

    Returns:
        The table: `.weights` of shape `[vocab lang]`, whose rows sum to 1, and the names of its columns, `.languages`.

    Raises:
        SemhubError: no tokenizer, or a language that `wordfreq` lacks.

    Example:
        >>> table = language_table(tiny_model, ["en", "fr"], words=100, progress=False)
        >>> table.languages, table.weights.shape[0] == tiny_model.cfg.d_vocab
        (('en', 'fr', 'unknown'), True)
    """
    _require_tokenizer(model)
    if unknown not in ("own", "uniform") or words < 1:
        raise SemhubError(f"Expected unknown='own' or 'uniform' and words >= 1, got {unknown!r} and {words}.")
    languages = tuple(languages)
    _check_languages(languages)
    posterior = _cached_posterior(model, languages, words, progress)
    source = f"wordfreq {version('wordfreq')}, {words} words a language"
    rest = 1 - posterior.sum(1, keepdim=True)
    if unknown == "uniform":
        return LanguageTable(tuple(languages), posterior + rest / len(languages), source + ", unknown spread evenly")
    return LanguageTable((*languages, UNKNOWN), torch.cat([posterior, rest], 1), source)


def _require_tokenizer(model: Model) -> None:
    if getattr(model, "tokenizer", None) is None:
        require_model(model)
        raise Unfit("The model has no tokenizer, so its tokens have no known language or script.")


def _cached_posterior(
    model: Model, languages: tuple[str, ...], words: int, progress: bool
) -> Float[Tensor, "vocab lang"]:
    size = int(model.cfg.d_vocab)
    folder = cache_root() / "tables"
    path = folder / f"{_key(model.tokenizer, languages, words, size)}.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            kept, told = {"posterior": file.get_tensor("posterior")}, file.metadata() or {}
        if told.get("sha256") == tensors_sha256(kept):
            return kept["posterior"]
    except (OSError, SafetensorError):  # not built yet, or damaged
        pass
    require_folder(folder, CACHE_ADVICE)
    made = {"posterior": _posterior(model.tokenizer, languages, words, size, progress)}
    _forget_word_lists()
    write_aside(path, lambda aside: save_file(made, aside, metadata={"sha256": tensors_sha256(made)}))
    return made["posterior"]


def _forget_word_lists() -> None:
    """Free the lists that `wordfreq` keeps of every language it was asked for: 460 MB for twelve languages."""
    import wordfreq

    wordfreq.get_frequency_dict.cache_clear()
    wordfreq.get_frequency_list.cache_clear()


def _check_languages(languages: Sequence[str]) -> None:
    import wordfreq

    available = wordfreq.available_languages("best")
    missing = [code for code in languages if code not in available]
    if len(set(languages)) < len(languages):
        raise SemhubError(f"A language is listed twice: {', '.join(languages)}.")
    if missing or not languages:
        raise SemhubError(
            f"No word frequencies for {missing or 'an empty list'}; available: {', '.join(sorted(available))}."
        )


def _key(tokenizer: Any, languages: Sequence[str], words: int, size: int) -> str:
    """Two tokenizers with one vocabulary may still split words differently, so some words are in it as they do."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    split = _encoded(tokenizer, [each for word in SPLIT for each in (word, " " + word)])
    return fingerprint([4, languages, words, size, version("wordfreq"), vocabulary, split])


def _posterior(
    tokenizer: Any, languages: Sequence[str], words: int, size: int, progress: bool
) -> Float[Tensor, "vocab lang"]:
    likelihood = np.zeros((size, len(languages)))
    for column, code in enumerate(tqdm(languages, desc="language table", disable=not progress, leave=False)):
        likelihood[:, column] = _token_counts(tokenizer, code, words, size)
    likelihood[~_has_letters(tokenizer, size)] = 0
    likelihood /= np.maximum(likelihood.sum(0), 1e-30)
    total = likelihood.sum(1, keepdims=True)
    return torch.from_numpy(np.where(total > 0, likelihood / np.maximum(total, 1e-30), 0)).float()


def _token_counts(tokenizer: Any, code: str, words: int, size: int) -> np.ndarray:
    import wordfreq

    ranked = sorted(wordfreq.get_frequency_dict(code).items(), key=lambda entry: (-entry[1], entry[0]))[:words]
    main: dict[str, float] = defaultdict(float)
    for word, frequency in ranked:
        main[script(word)] += frequency
    if (
        max(main, key=main.__getitem__) != "latin"
    ):  # Latin words in Japanese or Russian text are not Japanese or Russian
        ranked = [entry for entry in ranked if script(entry[0]) != "latin"]
    texts, weights = [], []
    for word, frequency in ranked:
        for spelled in dict.fromkeys((word, word[:1].upper() + word[1:])):  # a set has another order in each process
            texts += [spelled, " " + spelled]
            weights += [frequency / 2] * 2
    encoded = _encoded(tokenizer, texts)
    counts = np.zeros(size)
    flat = np.fromiter((i for ids in encoded for i in ids), dtype=np.int64)
    shares = np.repeat(weights, [len(ids) for ids in encoded])
    known = flat < size  # a tokenizer may have more tokens than the model has rows
    np.add.at(counts, flat[known], shares[known])
    return counts


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids from `tokenizer`; for a fast one without its wrapper around each text, which is slower."""
    first = tokenizer(texts[:1], add_special_tokens=False)["input_ids"]  # it also ends padding and cutting
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return first + tokenizer(texts[1:], add_special_tokens=False)["input_ids"]
    return [encoding.ids for encoding in fast.encode_batch_fast(texts, add_special_tokens=False)]


def _has_letters(tokenizer: Any, size: int) -> np.ndarray:
    return np.array([script(text) != UNKNOWN for text in token_texts(tokenizer, range(size))])


@checked
def script_table(model: Model) -> LanguageTable:
    """Build the table from token to the Unicode script of its letters; tokens without letters are `unknown`.

    It needs no word list. A script is not a language: most European languages share Latin script.

    Args:
        model: its tokenizer and vocabulary size are used.

    Returns:
        The table: `.weights` of shape `[vocab script]`, with a single 1 in each row.

    Raises:
        SemhubError: no tokenizer.

    Example:
        >>> table = script_table(tiny_model)
        >>> table.weights.shape[0] == tiny_model.cfg.d_vocab
        True
    """
    _require_tokenizer(model)
    names = (*dict.fromkeys(SCRIPTS.values()), "other", UNKNOWN)
    column = {name: i for i, name in enumerate(names)}
    scripts = [column[script(text)] for text in token_texts(model.tokenizer, range(int(model.cfg.d_vocab)))]
    return LanguageTable(names, one_hot(torch.tensor(scripts), len(names)).float(), "Unicode character names")


def script(text: str) -> str:
    """The script of most letters of a text: "latin", "han", ..., "other", or "unknown" without letters.

    Vowel signs and other marks that only one script uses count as its letters. Accents of any script do not.

    Example:
        >>> script("朋友"), script(" casa"), script("12")
        ('han', 'latin', 'unknown')
    """
    scripts = [name for name in map(_script_of, text) if name != UNKNOWN]
    return max(dict.fromkeys(scripts), key=scripts.count) if scripts else UNKNOWN


@cache
def _script_of(char: str) -> str:
    """The script of a letter, or of a vowel sign or other mark that only one script uses; otherwise "unknown"."""
    mark = unicodedata.category(char) in ("Mn", "Mc")
    if not char.isalpha() and not mark:
        return UNKNOWN
    wide = unicodedata.normalize("NFKC", char)[0]  # full-width, half-width and mathematical letters
    words = unicodedata.name(wide if wide.isalpha() else char, "?").replace("-", " ").split()
    named = next((SCRIPTS[word] for word in words[:2] if word in SCRIPTS), None)
    return named or (UNKNOWN if mark and words[0] in SHARED_MARKS else "other")
