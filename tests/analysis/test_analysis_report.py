import re
from html.parser import HTMLParser

import pytest
from synthetic import fail, make_experiment, point_path

from simai_rules.analysis.report import table_rows, write_report
from simai_rules.analysis.results import load
from simai_rules.errors import UserError


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href"):
                self.links.append(value)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    make_experiment(root, elements=(10_000, 1_000_000), repeats=3, snapshots=25)
    fail(root / point_path("redis", 10_000, 1), ("server", "<script>alert('x')</script> & more", 1.0))
    write_report(load(root), root / "report.html", config_text="name: a <b>")
    return root, (root / "report.html").read_text()


def test_the_page_is_one_file_without_clashing_ids(made):
    page = Page(made[1])
    assert page.tags.count("svg") == 4
    assert len(page.ids) == len(set(page.ids))
    inside = {f"#{name}" for name in page.ids}
    assert all(link in inside for link in page.links)
    assert not re.search(r"@import|url\((?!#)", made[1])


def test_texts_from_results_are_escaped(made):
    assert "<script>alert" not in made[1]
    assert "&lt;script&gt;alert" in made[1]
    assert "name: a &lt;b&gt;" in made[1]


def test_it_leads_with_the_answer_and_shows_what_is_incomplete(made):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", made[1]))
    assert "node-local writes and reads fastest at both message sizes compared" in text
    assert "17 of 18 points done, 1 failed" in text
    assert "of 18 points, 1 failed" in text
    assert point_path("redis", 10_000, 1) in text
    assert "Python" in text
    assert "perf_counter_ns" in text


def test_the_table_has_medians_over_repeats(made):
    rows = {(row["size"], row["backend"], row["component"], row["operation"]): row for row in table_rows(load(made[0]))}
    row = rows[40_000, "redis", "simulation", "write (first)"]
    assert (row["repeats"], row["count"], row["status"]) == (2, 2 * 2 * 24, "ok")
    assert rows[40_000, "node-local", "training", "read"]["repeats"] == 3
    assert (4_000_000, "filesystem", "simulation", "compute (MatMulSimple2D)") in rows


def test_what_the_kernels_did_has_a_table_and_a_figure(made):
    section = made[1][made[1].index('<h2 id="kernels">') : made[1].index('<h2 id="completeness">')]
    assert section.count("<svg") == 1
    (row, *_) = re.findall(r"<tr>\s*(<td>MatMul.*?)</tr>", section, re.S)
    cells = [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.S)]
    # 100 calls of 2 * 64**3 operations and 12 * 64**2 bytes in nine tenths of 2 ms.
    assert cells[:5] == ["MatMulSimple2D", "40 KB", "filesystem", "3", "100"]
    assert [float(cells[index]) for index in (6, 9)] == pytest.approx([29.1, 2.73], rel=0.02)
    assert re.fullmatch(r"2[89]\.\d to 29\.\d|2[89]\.\d to 3\d\.\d", cells[7])


def test_a_place_that_cannot_be_written_is_named(made, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        write_report([], tmp_path / "file" / "report.html")
