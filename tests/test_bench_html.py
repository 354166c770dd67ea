"""The HTML page: it stands alone, begins with a summary, and folds conditions away."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bench.publish import PAGE, publish
from bench.results import write_results
from core.errors import UserError
from tests.bench_published import CASE, CONDITIONS, case_rows, write_published


class Page(HTMLParser):
    """What a page loads and links to, its sections, the tags that are open at its end, its text in and outside of
    what is folded."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.ids, self.open, self.folded, self.shown = [], [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loaded += [attrs[name] for name in ("src", "srcset", "data") if name in attrs]
        self.loaded += [attrs["href"] for _ in range(tag == "link")]
        self.links += [attrs["href"] for _ in range(tag == "a")]
        self.ids += [attrs["id"] for _ in range("id" in attrs)]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            (self.folded if "details" in self.open and self.open[-1] != "summary" else self.shown).append(data)


@pytest.fixture
def results(tmp_path):
    return write_published(tmp_path / "results")


@pytest.fixture
def page(results):
    """Publishes and reads the page."""
    def read():
        list(publish(results))
        return Page((results / PAGE).read_text())
    return read


def test_page_stands_alone(page, results):
    found, text = page(), (results / PAGE).read_text()
    assert found.open == [] and len(found.loaded) == 1   # stages; no limits on a CPU, one run has no history yet
    assert all(value.startswith("data:image/png;base64,") for value in found.loaded)
    assert "A &lt;CPU&gt;" in text and "<CPU>" not in text and "differ by &lt;1&gt;" in text
    assert "1012.11" in text and "669.8" in text and "2.000x" in text


def test_page_begins_with_a_summary(page):
    found = page()
    shown = " ".join(found.shown)
    begin, end = shown.index("machine"), shown.index("Published, quoted")
    for part in ("a-cpu-2-cores", CASE.slug, "paddle-fused", "210.0", "first run", "2026-01-01"):
        assert begin < shown.index(part) < end
    assert "paddle-native" not in shown[begin:end]
    assert set(found.links) == {f"#a-cpu-2-cores/{CASE.slug}"} and found.ids == [f"a-cpu-2-cores/{CASE.slug}"]


def test_summary_says_the_change_since_the_run_before(page, results):
    later = {**CONDITIONS, "time": "2026-02-01T00:00:00+00:00"}
    write_results(results, case_rows(conditions=later, faster=2), {})
    shown = " ".join(page().shown)
    assert "105.0" in shown and "-50.0 % 2026-01-01" in shown and "first run" not in shown


def test_a_run_of_another_case_is_not_the_one_before(page, results):
    later = {**CONDITIONS, "time": "2026-02-01T00:00:00+00:00"}
    write_results(results, case_rows(replace(CASE, new_tokens=4), later, faster=2), {})
    found = page()
    assert " ".join(found.shown).count("first run") == 4 and "-50.0 %" not in " ".join(found.shown)
    assert len(found.ids) == 2


def test_conditions_are_folded(page):
    found = page()
    shown, folded = " ".join(found.shown), " ".join(found.folded)
    for part in ("row schema", "Measure it again", "gate failed: logits differ", "KV caches"):
        assert part in folded and part not in shown


def test_a_damaged_accuracy_is_named(results):
    path, *_ = results.rglob("accuracy.json")
    path.write_text("<<<<<<< HEAD\n{}\n")
    with pytest.raises(UserError, match=f"accuracy.json is damaged .*git checkout HEAD -- {path}"):
        list(publish(results))
