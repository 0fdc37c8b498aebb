"""Modalities are one table: an entry reaches readers, spokes and experiments."""

import pytest

from semhub_lens import SemhubError, spokes
from semhub_lens.experiments import Experiment, unreadable
from semhub_lens.inputs.modalities import MODALITIES, Modality
from semhub_lens.inputs.readers import ProcessorReader

TOUCH = Modality(name="touch", domain="haptics", argument="strokes", question="<touch> This feels like")


class Processor:
    """Takes strokes."""

    touch_token = "<stroke>"
    touch_token_id = 7

    def to_json_string(self):
        return "{}"


def test_a_new_entry_reaches_readers_spokes_and_experiments(tiny_model, monkeypatch):
    monkeypatch.setitem(MODALITIES, "touch", TOUCH)
    readers, missing = spokes.fitting(tiny_model)
    assert not readers and "touch" in missing
    felt = Experiment("haptics.similarity", "strokes against their names", 16, lambda job: None)
    assert felt.modality == "touch"
    assert unreadable([felt], {}, missing) == {"haptics.similarity": missing["touch"]}
    assert unreadable([felt], {"touch": ProcessorReader(Processor(), "touch")}, missing) == {}


def test_a_modality_that_is_not_in_the_table_is_refused():
    with pytest.raises(SemhubError, match="Unknown modality 'touch'; expected one of 'image', 'audio'"):
        ProcessorReader(Processor(), "touch")


def test_a_model_that_nothing_reads_for_is_told_so(tiny_model):
    with pytest.raises(SemhubError, match=r"needs a reader for audio, but no packaged spoke .*--spoke"):
        spokes.reader_for(tiny_model, "audio")
    with pytest.raises(SemhubError, match="There is no spoke 'nose'"):
        spokes.reader_for(tiny_model, "audio", spoke="nose")
