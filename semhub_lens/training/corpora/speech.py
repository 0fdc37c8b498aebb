"""Words spoken by eSpeak NG's voices, through the library in the package `espeakng-loader`.

The speech is synthetic and sounds robotic. The library's pitch flutters slightly and continuously from word to word, so
that no two renderings of a word are identical. Encoder features are therefore kept on disk.

eSpeak NG is under the GPL-3; none of it is bundled.
"""

import ctypes
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.optional_packages import optional
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.text.texts import concepts
from semhub_lens.inputs.speller import require_characters
from semhub_lens.training.corpora.emoji import emoji_names
from semhub_lens.training.corpora.stamps import read_stamps, stamp_names

VOICES = {"en": ("en-us", "en"), "fr": ("fr", "fr-be"), "es": ("es", "es-419"), "de": ("de",), "zh": ("cmn",)}
"""eSpeak's voice (and a second accent) of each language."""
TRAINED = ("m1", "f1", "m2", "f2", "m3", "f3", "m5", "f5", "m7", "Andy", "Alicia", "klatt4")
HELD = ("m4", "f4")
"""Variants that are never trained."""
SYNCHRONOUS, CHARS_UTF8, POSITION_CHARACTER = 2, 1, 1
RATE, PITCH = 1, 3
RATES = (80, 450)
"""The words per minute that eSpeak NG keeps to."""
Spoken = Mapping[str, Sequence[tuple[str, str, str]]]
"""By language: (word, its concept, a caption that contains it, or the word again)."""


@dataclass(frozen=True)
class _Engine:
    library: Any
    data: Path
    rate: int
    parts: list
    callback: Any
    """Kept alive, because the library stores only its address."""


@lru_cache(maxsize=1)
def _engine() -> _Engine:
    """ESpeak NG, started once in a process (it is one global engine)."""
    loader = optional("espeakng_loader", "espeakng-loader", "train")
    library = ctypes.CDLL(loader.get_library_path())
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, str(loader.get_data_path()).encode(), 0)
    if rate <= 0:
        raise SemhubError(f"eSpeak NG could not start (code {rate}). Reinstall the package espeakng-loader.")
    parts: list[np.ndarray] = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if count > 0:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    callback = kind(receive)
    library.espeak_SetSynthCallback(callback)
    return _Engine(library, Path(loader.get_data_path()), rate, parts, callback)


@checked
def speak(text: str, voice: str = "en", *, rate: int = 160, pitch: int = 50) -> tuple[np.ndarray, int]:
    """Samples (float32) and their rate of a text read by an eSpeak voice.

    Args:
        text: the text to speak.
        voice: a language, or language and variant: "fr", "fr+f2".
        rate: words per minute, 80 to 450.
        pitch: pitch of the voice, 0 to 100.

    Raises:
        SemhubError: the package is missing, the voice is unknown, a number is out of range, or the text makes no sound.

    Example:
        >>> from semhub_lens.training.corpora.speech import speak
        >>> samples, rate = speak("dog")
        >>> 0.1 < len(samples) / rate < 2
        True
    """
    require_characters(text + voice)
    if "\0" in text + voice:
        raise SemhubError(f"eSpeak NG reads a text up to its first null character; got {text!r} with {voice!r}.")
    for name, value, (least, most) in (("rate", rate, RATES), ("pitch", pitch, (0, 100))):
        if not least <= value <= most:
            raise SemhubError(f"{name}= is a whole number from {least} to {most}, got {value}.")
    engine = _engine()
    variant = voice.partition("+")[2]
    known = {path.name for path in (engine.data / "voices" / "!v").iterdir()}
    if variant and variant not in known:  # the library would take the voice without it
        raise SemhubError(f"eSpeak NG has no voice {voice!r}; its variants are for instance {', '.join(TRAINED)}.")
    if not voice or engine.library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise SemhubError(f"eSpeak NG has no voice {voice!r}. Expected for instance 'en', 'fr+f2' or 'cmn'.")
    engine.library.espeak_SetParameter(RATE, rate, 0)
    engine.library.espeak_SetParameter(PITCH, pitch, 0)
    engine.parts.clear()
    data = text.encode()
    engine.library.espeak_Synth(data, len(data) + 1, 0, POSITION_CHARACTER, 0, CHARS_UTF8, None, None)
    samples = np.concatenate(engine.parts).astype(np.float32) / 32768 if engine.parts else np.zeros(0, np.float32)
    if not np.abs(samples).max(initial=0) > 0:
        raise SemhubError(f"eSpeak NG said nothing for {text!r} with the voice {voice!r}.")
    return samples, engine.rate


@checked
def spoken_words(stamps: str | Path | None = None, *, english: int = 1200) -> dict[str, list[tuple[str, str, str]]]:
    """Words to speak, by language: names of emoji and Tux Paint stamps, everyday nouns, and common English words.

    Args:
        stamps: folder of Tux Paint's stamps; None leaves them out.
        english: number of English words, filled up with the most frequent ones of `wordfreq`.

    Raises:
        SemhubError: no words, or a folder without stamps.

    Example:
        >>> word, concept, caption = spoken_words("stamps")["en"][0]  # doctest: +SKIP
    """
    if english < 1:
        raise SemhubError(f"english= is the number of English words, at least 1; got {english}.")
    entries = [(names, {}) for names in emoji_names().values()]
    for stamp in read_stamps(stamps) if stamps is not None else ():
        entries.insert(0, (stamp_names(stamp), stamp.captions))  # first, because they have captions
    table = concepts()
    entries += [
        ({code: (word,) for code, word in zip(table, row, strict=True)}, {})
        for row in zip(*table.values(), strict=True)
    ]
    found: dict[str, dict[str, tuple[str, str, str]]] = {code: {} for code in VOICES}
    for names, captions in entries:
        concept = names["en"][0].lower() if names else ""
        for code, listed in names.items():
            if len(listed[0].split()) <= 2:
                found[code].setdefault(listed[0].lower(), (listed[0], concept, captions.get(code, listed[0])))
    _fill(found["en"], english)
    return {code: list(words.values()) for code, words in found.items()}


def known_words(spoken: Spoken) -> dict[str, dict[str, tuple[str, str]]]:
    """By language and lower-case word: the word as written, and its concept."""
    return {code: {word.lower(): (word, concept) for word, concept, _ in listed} for code, listed in spoken.items()}


def _fill(words: dict[str, tuple[str, str, str]], count: int) -> None:
    from wordfreq import top_n_list

    for word in top_n_list("en", 4 * count + 1000):
        if len(words) >= count:
            return
        if word.isalpha() and word.isascii() and len(word) > 2:
            words.setdefault(word, (word, word, word))


@checked
def speech_items(
    words: Spoken, *, variants: Sequence[str] = TRAINED, voices: Mapping[str, int] | None = None
) -> list[MediaItem]:
    """One item for each word and voice; every second voice reads the whole caption, if there is one.

    Args:
        words: see `spoken_words`.
        variants: eSpeak's voice variants.
        voices: how many variants read each language's words, in turn; None or a missing language takes all.

    Raises:
        SemhubError: no words, no variants, an unknown language, or fewer than one voice.

    Example:
        >>> samples, rate = speech_items(spoken_words(english=200))[0].open()  # doctest: +SKIP
    """
    counts = dict(voices or {})
    if not words or {*words, *counts} - set(VOICES) or not variants or min(counts.values(), default=1) < 1:
        raise SemhubError(
            f"Words in some of {', '.join(VOICES)} are read by at least one voice; got words= in "
            f"{', '.join(words) or 'no language'}, variants={list(variants)} and voices={counts}."
        )
    items = []
    for code, listed in words.items():
        count = counts.get(code, len(variants))
        for i, (word, concept, caption) in enumerate(listed):
            for j in range(count):
                k = (i + j) % len(variants)
                base = VOICES[code][k % len(VOICES[code])]
                text = caption if k % 2 else word
                pitch = 35 + 5 * (_number(word, k) % 7)
                rate = 120 + 15 * (_number(word, k) // 7 % 6)
                open_ = partial(speak, text, f"{base}+{variants[k]}", rate=rate, pitch=pitch)
                key, content = f"speech:{code}:{word}:{variants[k]}", f"{text} {base} {rate} {pitch}"
                items.append(MediaItem(key, variants[k], concept, {code: (word,)}, content, open_))
    return items


def _number(word: str, k: int) -> int:
    """A number that depends only on the arguments."""
    return int.from_bytes(hashlib.sha256(f"{word} {k}".encode()).digest()[:4], "big")
