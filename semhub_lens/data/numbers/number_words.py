"""Number words from 0 to 99 in the five bundled languages."""

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError

LIMIT = 100
ENGLISH = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
ENGLISH_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
FRENCH = (
    *("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix"),
    *("onze", "douze", "treize", "quatorze", "quinze", "seize", "dix-sept", "dix-huit", "dix-neuf"),
)
FRENCH_TENS = {2: "vingt", 3: "trente", 4: "quarante", 5: "cinquante", 6: "soixante", 8: "quatre-vingt"}
SPANISH = (
    *("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez"),
    *("once", "doce", "trece", "catorce", "quince", "dieciséis", "diecisiete", "dieciocho", "diecinueve"),
    *("veinte", "veintiuno", "veintidós", "veintitrés", "veinticuatro", "veinticinco", "veintiséis"),
    *("veintisiete", "veintiocho", "veintinueve"),
)
SPANISH_TENS = ("", "", "", "treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa")
GERMAN = (
    *("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"),
    *("elf", "zwölf", "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn"),
)
GERMAN_TENS = ("", "", "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig")
CHINESE = "零一二三四五六七八九"


@checked
def number_words(language: str, number: int) -> str:
    """The name of a number from 0 to 99 in en, fr, es, de or zh.

    Raises:
        SemhubError: another language or number.

    Example:
        >>> from semhub_lens.data.numbers.number_words import number_words
        >>> [number_words(language, 81) for language in ("en", "fr", "es", "de", "zh")]
        ['eighty-one', 'quatre-vingt-un', 'ochenta y uno', 'einundachtzig', '八十一']
    """
    if language not in NAMERS:
        raise SemhubError(f"No number words in {language!r}; there are {', '.join(NAMERS)}.")
    if not 0 <= number < LIMIT:
        raise SemhubError(f"Number words exist from 0 to {LIMIT - 1}, got {number}.")
    return NAMERS[language](number)


def number_word(number: int) -> str:
    """English name of a number from 0 to 99, like `number_words`."""
    return number_words("en", number)


def _english(number: int) -> str:
    if number < len(ENGLISH):
        return ENGLISH[number]
    tens, ones = divmod(number, 10)
    return ENGLISH_TENS[tens] + (f"-{ENGLISH[ones]}" if ones else "")


def _french(number: int) -> str:
    if number < len(FRENCH):
        return FRENCH[number]
    tens, ones = divmod(number, 10)
    if tens in (7, 9):  # soixante-dix, quatre-vingt-dix: counted on from 60 and 80
        tens, ones = tens - 1, ones + 10
    if ones == 0:
        return FRENCH_TENS[tens] + ("s" if tens == 8 else "")
    return FRENCH_TENS[tens] + (" et " if ones in (1, 11) and tens != 8 else "-") + FRENCH[ones]


def _spanish(number: int) -> str:
    tens, ones = divmod(number, 10)
    if number < len(SPANISH):
        return SPANISH[number]
    return SPANISH_TENS[tens] + (f" y {SPANISH[ones]}" if ones else "")


def _german(number: int) -> str:
    tens, ones = divmod(number, 10)
    if number < len(GERMAN):
        return GERMAN[number]
    return (f"{'ein' if ones == 1 else GERMAN[ones]}und" if ones else "") + GERMAN_TENS[tens]


def _chinese(number: int) -> str:
    tens, ones = divmod(number, 10)
    if number < 10:
        return CHINESE[number]
    return (CHINESE[tens] if tens > 1 else "") + "十" + (CHINESE[ones] if ones else "")


NAMERS = {"en": _english, "fr": _french, "es": _spanish, "de": _german, "zh": _chinese}
