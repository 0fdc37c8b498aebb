"""The table of languages is made from words in one order, in every process."""

import models
import semhub_lens as shl
from semhub_lens.lens import language_tables


def test_every_word_is_read_before_its_capitalised_spelling(monkeypatch, tmp_path):
    """Sums in another order would differ in their last bits, and so would the fingerprint of a run."""
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path))
    encoded, read = language_tables._encoded, []

    def reading(tokenizer, texts):
        read.extend(texts)
        return encoded(tokenizer, texts)

    monkeypatch.setattr(language_tables, "_encoded", reading)
    shl.language_table(models.tiny(), ["en"], words=60, progress=False)
    both = [word for word in read if word.islower() and word != word.capitalize() in read]
    assert len(both) > 40 and all(read.index(word) < read.index(word.capitalize()) for word in both)
