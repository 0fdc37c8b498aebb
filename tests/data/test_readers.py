"""Readers of files that users bring."""

import json
import re

import datasets
import pandas as pd
import pytest

from semhub_lens.base.errors import SemhubError
from semhub_lens.data.code.instructions import read_mbpp
from semhub_lens.data.code.list_literals import list_literals
from semhub_lens.data.semantics.logical_forms import read_cogs
from semhub_lens.data.text.corpora import SentimentText, read_sentiments, read_texts, sentiments
from semhub_lens.data.text.gale_cedict import read_cedict, read_gale

HEADER = "\t".join(
    f"{name};unicode"
    for name in ["file", "channel", "start", "end", "speaker", "speakerType", "speakerDialect", "transcript"]
)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tdf(start, text):
    return f"a.sph\t0\t{start}\t{start + 1}\tspeaker\tmale\tnative\t{text}\t1\t2\t3\treport\tstatement"


def gale(folder, chinese, english, suffix=".su.tdf", inner="data"):
    source = write(folder / inner / "source" / "bn" / f"CCTV_1.zho{suffix}", *chinese)
    translation = write(folder / inner / "translation" / "bn" / f"CCTV_1.eng{suffix}", *english)
    return source, translation


@pytest.mark.parametrize("inner", ["data", "."])
def test_gale_segments_are_paired(tmp_path, inner):
    chinese = [HEADER, ";;MM sectionTypes", tdf(0.5, "你好。"), tdf(2.0, ""), tdf(3.0, "再见。")]
    english = [HEADER, tdf(0.5, "Hello."), tdf(2.0, "Lost."), tdf(3.0, "Goodbye.")]
    gale(tmp_path, chinese, english, inner=inner)
    assert read_gale(tmp_path) == {"zh": ["你好。", "再见。"], "en": ["Hello.", "Goodbye."]}


def test_gale_in_tables_of_segment_ids(tmp_path):
    gale(tmp_path, ["s1\t你好。", "s2\t再见。"], ["s1\tHello.", "s2\tGoodbye."], suffix=".tab")
    assert read_gale(str(tmp_path)) == {"zh": ["你好。", "再见。"], "en": ["Hello.", "Goodbye."]}


def test_gale_files_are_read_in_the_order_of_their_names(tmp_path):
    for name, zh, en in (("b", "再见", "bye"), ("a", "你好", "hi")):
        write(tmp_path / "source" / f"{name}.zho.tsv", f"1\t{zh}")
        write(tmp_path / "translation" / f"{name}.eng.tsv", f"1\t{en}")
    assert read_gale(tmp_path)["en"] == ["hi", "bye"]


@pytest.mark.parametrize(
    "chinese, english, suffix, message",
    [
        (["s1\t好"], ["s1\tA", "s2\tB"], ".tab", "1 segments, .* has 2; expected equally many"),
        (["s1\t好", "s2\t坏"], ["s1\tA", "s3\tB"], ".tab", r"zho\.tab:2 is segment \('s2',\), but .*eng\.tab:2"),
        ([tdf(0, "好")], [tdf(5, "A")], ".su.tdf", r"zho\.su\.tdf:1 is segment \('0', '1'\)"),
        (["s1 好"], ["s1\tA"], ".tab", r"zho\.tab:1: expected a segment id, a tab and a text"),
        ([HEADER, "a\tb"], [tdf(0, "A")], ".tdf", r"zho\.tdf:2: expected at least 8 columns, found 2"),
        ([""], [""], ".tab", "No segments in"),
    ],
)
def test_gale_files_that_do_not_match_are_refused(tmp_path, chinese, english, suffix, message):
    gale(tmp_path, chinese, english, suffix=suffix)
    with pytest.raises(ValueError, match=message):
        read_gale(tmp_path)


def test_gale_folders_that_are_not_whole_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected the folder .*source"):
        read_gale(tmp_path)
    source = write(tmp_path / "source" / "a.zho.tsv", "1\t好")
    with pytest.raises(ValueError, match=r"Expected the folder .*translation"):
        read_gale(tmp_path)
    write(tmp_path / "translation" / "notes.txt", "none")
    with pytest.raises(ValueError, match=r"Expected files \.tdf"):
        read_gale(tmp_path)
    write(tmp_path / "translation" / "b.eng.tsv", "1\tgood")
    with pytest.raises(ValueError, match=f"{re.escape(str(source))} has no partner"):
        read_gale(tmp_path)
    write(tmp_path / "source" / "more" / "a.cmn.tsv", "1\t好")
    with pytest.raises(ValueError, match="both belong to 'a'"):
        read_gale(tmp_path)


CEDICT = (
    "# CC-CEDICT",
    "朋友 朋友 [peng2 you5] /friend/CL:個|个[ge4],位[wei4]/",
    "吃 吃 [chi1] /to eat/to eat at (a cafeteria)/(coll.) consume; devour/",
    "書 书 [[shu1]] /book/letter/document/",
    "書 书 [Shu1] /abbr. for 書經|书经/book/volume/",
    "東西 东西 [dong1 xi1] /east and west/",
)


def test_cedict_gives_glosses_of_one_word(tmp_path):
    path = write(tmp_path / "cedict_ts.u8", *CEDICT)
    assert read_cedict(path) == {
        "朋友": ("friend",),
        "吃": ("eat", "consume", "devour"),
        "书": ("book", "letter", "document", "volume"),
    }
    assert set(read_cedict(str(path), traditional=True)) == {"朋友", "吃", "書"}


@pytest.mark.parametrize("line", ["朋友 [peng2 you5] /friend/", "朋友 朋友 /friend/", "朋友 朋友 [peng2] friend", "x"])
def test_a_malformed_line_of_cedict_is_refused_with_its_place(tmp_path, line):
    path = write(tmp_path / "cedict_ts.u8", *CEDICT, line)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}:7: expected 'Traditional Simplified"):
        read_cedict(path)


def test_no_cedict_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="found none at"):
        read_cedict(tmp_path / "cedict_ts.u8")
    with pytest.raises(ValueError, match="No entries in"):
        read_cedict(write(tmp_path / "cedict_ts.u8", "# nothing"))


def test_the_same_texts_come_from_every_kind_of_file(tmp_path):
    texts = ["Ein Satz.", "中文\u2028行", "Third one"]
    write(tmp_path / "a.txt", texts[0], "", f"  {texts[1]} ", texts[2])
    write(tmp_path / "b.jsonl", *(json.dumps({"text": text, "n": 1}) for text in texts), "")
    pd.DataFrame({"text": texts, "n": 1}).to_parquet(tmp_path / "c.parquet")
    for name in ("a.txt", "b.jsonl", "c.parquet"):
        assert read_texts(tmp_path / name) == texts
    write(tmp_path / "d.md", "not read")
    assert read_texts(str(tmp_path)) == texts * 3 and read_texts(tmp_path, limit=4) == [*texts, texts[0]]
    write(tmp_path / "own.jsonl", json.dumps({"body": "hi"}))
    assert read_texts(tmp_path / "own.jsonl", column="body") == ["hi"]


@pytest.mark.parametrize(
    "name, line, message",
    [
        ("a.jsonl", "{", r"a\.jsonl:1: expected a JSON object"),
        ("a.jsonl", '{"body": "x"}', r"a\.jsonl:1: expected a text in 'text', found \['body'\]"),
        ("a.jsonl", '["x"]', "found list"),
        ("a.jsonl", '{"text": 3}', "expected a text in 'text'"),
        ("a.txt", "   ", "No texts in"),
        ("a.csv", "text", r"Expected a file \.txt, \.jsonl, \.parquet"),
    ],
)
def test_files_without_texts_are_refused(tmp_path, name, line, message):
    with pytest.raises(ValueError, match=message):
        read_texts(write(tmp_path / name, line))


def test_the_mark_that_windows_writes_at_the_start_of_a_file_is_no_text(tmp_path):
    rows = {"a.txt": "chat noir\n", "b.jsonl": '{"text": "chat noir", "label": "neutral", "lang": "fr"}\n'}
    for name, text in rows.items():
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert read_texts(tmp_path / name) == ["chat noir"]
    assert read_sentiments(tmp_path / "b.jsonl") == [SentimentText("chat noir", "neutral", "fr")]


@pytest.mark.parametrize(
    "read, name, text",
    [
        (read_cedict, "a.u8", "\n".join(CEDICT[1:])),
        (read_cogs, "a.tsv", "Emma slept .\tsleep . agent ( x _ 1 , Emma )\tdev\n"),
        (read_mbpp, "a.jsonl", '{"text": "Add two.", "code": "a + b"}\n'),
        (list_literals, "a.py", "x = [a, b, c]\n"),
    ],
)
def test_that_mark_changes_nothing_that_is_read_from_a_file_of_its_own_form(tmp_path, read, name, text):
    found = []
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / name).write_text(text, encoding=encoding)
        found.append(read(tmp_path if name == "a.py" else tmp_path / name))
    assert found[0] and found[0] == found[1]


@pytest.mark.parametrize("reader, name", [(read_texts, "a.txt"), (read_texts, "a.jsonl"), (read_sentiments, "a.csv")])
def test_a_file_in_another_encoding_is_refused_by_its_name(tmp_path, reader, name):
    (tmp_path / name).write_bytes("text,label,lang\nété,neutral,fr\n".encode("latin-1"))
    with pytest.raises(SemhubError, match=f"{name} is not a text in UTF-8"):
        reader(tmp_path / name)


def test_parquet_files_without_the_column_are_refused(tmp_path):
    pd.DataFrame({"body": ["x"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"expected a column 'text', found \['body'\]"):
        read_texts(tmp_path / "a.parquet")
    pd.DataFrame({"text": ["x", None]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="expected a text in 'text'"):
        read_texts(tmp_path / "a.parquet")


@pytest.mark.parametrize("reader", [read_texts, read_sentiments])
def test_what_is_neither_path_nor_data_set_is_refused(reader, tmp_path):
    for source in ("nothing", "some/missing.jsonl", str(tmp_path / "missing.jsonl"), "a/b/c"):
        with pytest.raises(ValueError, match="found nothing at"):
            reader(source, limit=3)
    with pytest.raises(ValueError, match="pass a limit"):
        reader("wikimedia/wikipedia:20231101.fr")
    with pytest.raises(ValueError, match="limit = 0"):
        reader(tmp_path, limit=0)
    with pytest.raises(ValueError, match="or a folder with such files"):
        reader(tmp_path)


def test_offline_the_data_set_and_the_reason_are_named():
    with pytest.raises(ValueError, match=r"'allenai/c4:zh' is not a path here, .* cannot be loaded: .*allenai/c4"):
        read_texts("allenai/c4:zh", limit=3)


def test_without_the_package_its_installation_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(
        ValueError, match=r'needs the package datasets, .* Install it with pip install "semhub-lens\[data\]"'
    ):
        read_texts("allenai/c4:zh", limit=3)


@pytest.fixture
def hub(monkeypatch):
    """A data set in place of the hub; `asked` receives what was asked for."""
    asked = []
    names = datasets.ClassLabel(names=["positive", "neutral", "negative"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": names, "language": datasets.Value("string")}
    )
    rows = {"text": ["très bien", " ", "schlecht"], "label": [0, 1, 2], "language": ["french", "english", "german"]}

    def load(name, config, *, split, streaming, revision):
        asked.append((name, config, split, streaming, revision))
        return datasets.Dataset.from_dict(rows, features=features).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_data_sets_are_streamed_by_name_and_configuration(hub):
    assert read_texts("wikimedia/wikipedia:20231101.fr", limit=9) == ["très bien", "schlecht"]
    assert read_texts("owner/plain", limit=1) == ["très bien"]
    assert read_texts("owner/x:all@refs/convert/parquet", limit=1) == ["très bien"]
    assert hub == [
        ("wikimedia/wikipedia", "20231101.fr", "train", True, None),
        ("owner/plain", None, "train", True, None),
        ("owner/x", "all", "train", True, "refs/convert/parquet"),
    ]
    with pytest.raises(ValueError, match="row 0: expected a text in 'body'"):
        read_texts("owner/plain", limit=1, column="body")


def test_numbers_are_labels_where_the_data_set_names_them(hub):
    assert read_sentiments("owner/x:all", limit=1) == [SentimentText("très bien", "positive", "fr")]
    with pytest.raises(ValueError, match="row 1: expected a text, a language and a label"):
        read_sentiments("owner/x:all", limit=3)


def test_labelled_texts_come_from_every_kind_of_file(tmp_path):
    expected = [SentimentText('It is "good", really', "positive", "en"), SentimentText("schlecht", "negative", "de")]
    rows = [{"text": s.text, "label": s.label, "language": s.language} for s in expected]
    write(tmp_path / "a.jsonl", *(json.dumps(row) for row in rows))
    pd.DataFrame(rows).to_csv(tmp_path / "b.csv", index=False)
    write(tmp_path / "c.tsv", "lang\tlabel\ttext", *(f"{s.language}\t{s.label}\t{s.text}" for s in expected))
    for name in ("a.jsonl", "b.csv", "c.tsv"):
        assert read_sentiments(tmp_path / name) == expected
    assert read_sentiments(tmp_path, limit=3) == [*expected, expected[0]]


def test_the_bundled_sentences_read_alike_as_a_file(tmp_path):
    lines = [f"{s.language}\t{s.label}\t{s.text}" for s in sentiments()]
    assert read_sentiments(write(tmp_path / "own.tsv", "lang\tlabel\ttext", *lines)) == sentiments()


@pytest.mark.parametrize(
    "row, message",
    [
        ({"text": "x", "label": "happy", "language": "en"}, "label among positive, negative, neutral"),
        ({"text": "x", "label": 0, "language": "en"}, "label among positive, negative, neutral"),
        ({"text": " ", "label": "positive", "language": "en"}, "expected a text, a language"),
        ({"text": "x", "language": "en"}, "label among positive, negative, neutral"),
        ({"text": "x", "label": "positive"}, "expected a text in 'lang'"),
        ({"label": "positive", "language": "en"}, "expected a text in 'text'"),
    ],
)
def test_rows_without_a_sentiment_are_refused_with_their_place(tmp_path, row, message):
    good = {"text": "x", "label": "positive", "language": "en"}
    path = write(tmp_path / "a.jsonl", json.dumps(good), json.dumps(row))
    with pytest.raises(ValueError, match=rf"a\.jsonl:2: .*{message}"):
        read_sentiments(path)
