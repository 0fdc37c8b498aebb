"""Long tables of the pages can be sorted and filtered, in real Chromium."""

import re
from pathlib import Path

import pytest

from browser import rendered
from explored import in_chromium

pytestmark = in_chromium
SCRIPT = Path(__file__).parent.parent / "docs" / "_static" / "tables.js"
EFFECTS = ["0.5 [0.4, 0.6] nats", "-16 [-17, -14] nats", "0.45 cosine", "-0.24 nats", "1e-05 cosine", "", "9.08 nats"]
IN_ORDER = ["-16 [-17, -14] nats", "-0.24 nats", "1e-05 cosine", "0.45 cosine", "0.5 [0.4, 0.6] nats", "9.08 nats", ""]
ROWS = [(f"leg {number}", effect) for number, effect in enumerate(EFFECTS * 3)]


def shown(folder, act):
    """The visible rows of a table after `act`, which is JavaScript."""
    body = "".join(f"<tr><td>{name}</td><td>{effect}</td></tr>" for name, effect in ROWS)
    head = "<thead><tr><th>leg</th><th>effect</th></tr></thead>"
    script = SCRIPT.read_text(encoding="utf-8")
    page = folder / "page.html"
    page.write_text(
        f"<article><table>{head}<tbody>{body}</tbody></table></article><script>{script}\n"
        f"addEventListener('DOMContentLoaded', () => {{ {act} }});</script>",
        encoding="utf-8",
    )
    rows = re.findall(r"<tr([^>]*)><td>(.*?)</td><td>(.*?)</td></tr>", rendered(page).split("<tbody>")[1])
    return [(name, effect) for hidden, name, effect in rows if "hidden" not in hidden]


@pytest.mark.parametrize("clicks", [1, 2])
def test_a_column_of_numbers_is_sorted_by_their_size(tmp_path, clicks):
    rows = shown(tmp_path, "document.querySelectorAll('th')[1].click();" * clicks)
    order = list(dict.fromkeys(effect for _, effect in rows))
    assert order == (IN_ORDER if clicks == 1 else IN_ORDER[::-1])


def test_a_column_of_names_is_sorted_as_people_do(tmp_path):
    rows = shown(tmp_path, "document.querySelectorAll('th')[0].click();")
    assert [name for name, _ in rows] == [name for name, _ in ROWS]  # leg 2 comes before leg 10


def test_a_filter_keeps_the_rows_with_every_word(tmp_path):
    act = "const f = document.querySelector('input'); f.value = 'LEG cosine'; f.dispatchEvent(new Event('input'));"
    assert shown(tmp_path, act) == [row for row in ROWS if "cosine" in row[1]]
