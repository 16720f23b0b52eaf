"""What a comparison is told as: readable by those it is for, whatever the names in it."""

import json
import re
import sys
from dataclasses import replace
from html import unescape
from importlib.resources import files as files_of
from itertools import groupby
from xml.etree import ElementTree

import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt
from saved_runs import save
from strict_junit import faults
from synthetic_runs import HOSTILE, blocks, case, manifest, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.comparison import Comparison, Side, compare_sides
from lstm_harness.judge.exporters import document, junit, markdown, words
from lstm_harness.judge.verdict import Kind, Rules, Verdict
from lstm_harness.report import verdicts as page

NS = 1_000_000
STEADY = (1.0, 1.004, 0.997, 1.002, 0.999)
WILD = (1.0, 1.6, 0.7, 1.2, 0.8)
CONTROL = ("\x00nul\x1b[31mred\x07", "surrogate \ud800", "@everyone #1 GH-1 www.example.com")
NASTY = (*HOSTILE, *CONTROL, "a|b `c` **d** [e](http://f) ![g](h) ~~i~~ \\", "| --- |", "&#124;")


def side(name, records, **fields):
    return Side(name, manifest(list(records), **fields), summarise(records))


def times(backend, factor=1.0, spread=STEADY, **fields):
    return blocks(backend, [int(NS * factor * s) for s in spread], **fields)


def failed(backend, status, **fields):
    return [record(backend, status=status, block=block, **fields) for block in range(5)]


def compared(base, new, **how):
    return compare_sides(side("base", base), side("new", new), Rules(), **how)


@pytest.fixture(scope="module")
def every_kind():
    names = ("same", "slow", "fast", "wild", "wrong", "crashed", "gone", "never")
    base = [r for name in names[:-1] for r in times(name)] + failed("never", "unsupported")
    new = [
        *times("same"),
        *times("slow", 1.5, peak_bytes=2),
        *times("fast", 0.5),
        *times("wild", spread=WILD),
        *failed("wrong", "incorrect"),
        *failed("crashed", "crashed"),
        *failed("never", "unsupported"),
        *times("came"),
        *times("other", of=case(precision="tf32")),
    ]
    return compared([*base, *times("other")], new)


@pytest.fixture(scope="module")
def unclear():
    """Two backends, three cases each, of which nothing can be told."""
    cases = [case(seq_len=steps) for steps in (1, 2, 3)]
    of = [(name, one) for one in cases for name in ("naive", "aten")]
    base, new = (
        [r for name, one in of for r in times(name, spread=spread, of=one)]
        for spread in (STEADY, WILD)
    )
    return compared(base, new)


@pytest.fixture(scope="module")
def hostile():
    """Names, reasons and notes that would break out wherever they are not escaped."""
    base = [r for name in NASTY for r in times(name)]
    slow = [r for name in NASTY[::2] for r in times(name, 2.0)]
    broken = [r for name in NASTY[1::2] for r in failed(name, "crashed", reason=name * 2)]
    sides = (side(NASTY[0], base), Side(NASTY[1], manifest(), summarise([*slow, *broken])))
    found = compare_sides(*sides, Rules())
    return Comparison(*sides, Rules(), found.verdicts, NASTY, NASTY, found.fail_on)


@pytest.fixture(scope="module")
def of_500():
    cases = [case(seq_len=steps) for steps in range(1, 501)]
    base = [r for of in cases for r in times("naive", of=of)]
    new = [r for n, of in enumerate(cases) for r in times("naive", 1 + n / 500, of=of)]
    return compared(base, new)


class TestJunit:
    def test_each_kind_has_its_result(self, every_kind):
        read = JUnitXml.fromstring(junit.xml(every_kind))
        (suite,) = read
        results = {
            (each.classname, each.name.rpartition(", ")[2]): [type(r) for r in each.result]
            for each in suite
        }
        assert {name: found for (name, measure), found in results.items() if measure == "time"} == {
            "wrong": [Failure],
            "crashed": [Error],
            "gone": [Failure],
            "slow": [Failure],
            "wild": [Skipped],
            "other": [Skipped],
            "never": [Skipped],
            "fast": [],
            "same": [],
            "came": [],
        }
        assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (11, 3, 1, 4)

    def test_messages_say_what_happened(self, every_kind):
        text = junit.xml(every_kind).decode()
        assert "REGRESSION: 1 ms to 1.501 ms +50.0%" in text
        assert "MISSING: now crashed: crashed on purpose" in text
        assert "INCONCLUSIVE: " in text
        assert "too noisy" in text

    def test_what_fail_on_names_is_a_failure(self, every_kind):
        strict = compare_sides(
            every_kind.base, every_kind.new, Rules(), fail_on=frozenset({Kind.INCONCLUSIVE})
        )
        (suite,) = JUnitXml.fromstring(junit.xml(strict))
        wild = next(each for each in suite if each.classname == "wild")
        assert [type(result) for result in wild.result] == [Failure]

    @pytest.mark.parametrize("which", ["every_kind", "hostile", "of_500"])
    def test_it_follows_a_strict_schema(self, which, request):
        found = junit.xml(request.getfixturevalue(which))
        assert faults(found) == []

    def test_nothing_compared_is_a_file_too(self):
        assert faults(junit.xml(compared([], []))) == []

    def test_nothing_comparable_is_not_green(self):
        base, new = ([*times("naive", of=case(precision=p))] for p in ("ieee", "tf32"))
        (suite,) = JUnitXml.fromstring(junit.xml(compared(base, new)))
        assert (suite.tests, suite.skipped, suite.errors) == (3, 2, 1)
        assert faults(junit.xml(compared(base, new))) == []

    def test_nothing_told_is_not_green(self, unclear):
        (suite,) = JUnitXml.fromstring(junit.xml(unclear))
        assert (suite.tests, suite.skipped, suite.errors) == (7, 6, 1)
        (error,) = list(suite)[-1].result
        assert "nothing could be told; to see 5% here: " in error.message
        assert faults(junit.xml(unclear)) == []

    def test_backends_stand_one_after_the_other(self, unclear, every_kind):
        for comparison in (unclear, every_kind):
            (suite,) = JUnitXml.fromstring(junit.xml(comparison))
            names = [each.classname for each in suite if each.classname != "lstm-bench"]
            assert [name for name, _ in groupby(names)] == list(dict.fromkeys(names))

    def test_the_schema_is_strict(self, every_kind):
        good = junit.xml(every_kind).decode()
        for change in (
            ('tests="11"', 'tests="12"'),
            ("<failure ", "<failed "),
            ('classname="wild"', 'class="wild"'),
            ('classname="wild"', 'classname="wild" line="1"'),
            ("<skipped ", "<system-out /><skipped "),
            ('message="INCONCLUSIVE', 'text="INCONCLUSIVE'),
        ):
            bad = good.replace(*change).replace("</failure>", "</failure>")
            assert bad != good
            try:
                assert faults(bad.encode()), change
            except ElementTree.ParseError:
                assert "fail" in change[0]


class TestMarkdown:
    RENDER = MarkdownIt("gfm-like", {"html": True, "linkify": False})

    def test_a_reviewer_sees_the_outcome_first_and_the_worst_row_first(self, every_kind):
        lines = markdown.text(every_kind).splitlines()
        assert lines[0] == "### lstm-bench: A result is wrong"
        rows = [line for line in lines if line.startswith("| **")]
        order = [re.match(r"\| \*\*(\w+)", row).group(1) for row in rows]
        places = [list(Kind).index(Kind(kind)) for kind in order]
        assert places == sorted(places)
        assert order[0] == "INCORRECT"
        assert "SAME" not in order

    def test_500_cases_stay_under_60_lines_worst_first(self, of_500):
        text = markdown.text(of_500)
        assert len(text.splitlines()) < 60
        rows = [line for line in text.splitlines() if line.startswith("| **REGRESSION")]
        assert len(rows) == markdown.MOST_ROWS
        assert "T500 " in rows[0]
        assert "and 435 more" in text or re.search(r"and \d{3} more", text)
        assert len(text) < 60_000

    def test_backends_come_before_cases(self, every_kind):
        text = markdown.text(every_kind)
        rows = [line for line in text.splitlines() if line.startswith("| <code>")]
        assert len(rows) == len({verdict.backend for verdict in every_kind.verdicts})
        assert "wrong" in rows[0]
        assert text.index(rows[-1]) < text.index("| **INCORRECT**")
        assert "| <code>slow</code> | 1 slower or larger |  |" in rows

    def test_what_could_not_be_told_is_a_row_a_backend_and_what_to_do(self, unclear):
        text = markdown.text(unclear)
        assert text.startswith("### lstm-bench: Nothing could be told")
        assert "To see 5\\% here\\: use lstm\\-bench ab or find a quieter machine." in text
        assert "| **" not in text
        rows = [line for line in text.splitlines() if line.startswith("| <code>")]
        assert len(rows) == 2
        assert all("| 3 inconclusive |" in row and "or more" in row for row in rows)

    def test_hostile_names_stay_in_their_cells(self, hostile):
        text = markdown.text(hostile)
        assert len(text.splitlines()) < 60
        tokens = self.RENDER.parse(text)
        inline = [child for token in tokens for child in token.children or ()]
        assert {child.type for child in inline} <= {
            *("text", "text_special", "html_inline", "strong_open", "strong_close"),
        }
        raw = {child.content for child in inline if child.type == "html_inline"}
        assert raw == {"<code>", "</code>", "<sub>", "</sub>"}
        html = self.RENDER.render(text)
        backends, cases = html.split("<table>")[1:]
        assert {row.count("<td") for row in backends.split("<tr>")[2:]} == {2}
        assert {row.count("<td") for row in cases.split("<tr>")[2:]} == {8}
        assert not re.search(r"<(script|img|a|b)\b", html)

    def test_nobody_is_mentioned(self, hostile):
        rendered = self.RENDER.render(markdown.text(hostile))
        assert "@everyone" not in rendered
        assert "everyone" in rendered

    def test_names_read_as_they_are(self):
        name = "my_kernel|v2 <fast> `x`"
        found = compared(times(name), times(name, 2.0))
        rendered = self.RENDER.render(markdown.text(found))
        assert "<code>my_kernel|v2 &lt;fast&gt; `x`</code>" in rendered

    def test_backend_that_vanished_hides_nothing_else(self):
        cases = [case(seq_len=steps) for steps in range(1, 41)]
        base = [r for of in cases for r in [*times("gone", of=of), *times("naive", of=of)]]
        new = [r for of in cases for r in times("naive", 1.5 if of is cases[7] else 1, of=of)]
        rows = [x for x in markdown.text(compared(base, new)).splitlines() if x.startswith("| **")]
        assert len(rows) == 2
        assert "| **MISSING** | <code>gone</code> | <code>40 cases</code> |" in rows[0]
        assert "| **REGRESSION** | <code>naive</code> | <code>lstm T8 " in rows[1]

    def test_cases_with_times_of_their_own_have_rows_of_their_own(self):
        """Of too few blocks, for one reason: they are alike in nothing else."""
        cases = case(seq_len=1), case(seq_len=2)
        base = [r for of in cases for r in times("naive", spread=STEADY[:2], of=of)]
        new = [*times("naive", spread=STEADY[:2], of=cases[0])]
        new += times("naive", 8.0, spread=STEADY[:2], of=cases[1])
        rows = words.gathered(compared(base, new).verdicts)
        assert [label for _, label in rows] == [of.label() for of in cases]

    def test_nothing_to_list_is_a_short_comment(self):
        text = markdown.text(compared(times("naive"), times("naive")))
        assert "No regression" in text
        assert "| verdict |" not in text
        assert "1 the same" in text


class TestPage:
    def test_the_verdict_table_comes_first_and_worst_first(self, every_kind):
        html = page.render(every_kind)
        assert html.index("INCORRECT") < html.index("MISSING") < html.index("<td><b>SAME")
        assert "A result is wrong" in html
        by_backend, cases, *_ = html.split("</table>")
        assert by_backend.count("<tr>") == 1 + len({each.backend for each in every_kind.verdicts})
        assert cases.count("<tr>") == 1 + len(every_kind.verdicts)

    def test_names_are_escaped(self, hostile):
        html = page.render(hostile)
        assert "<script" not in html
        assert "<img" not in html
        assert "\u202e" not in html
        html.encode()

    def test_it_needs_no_network_and_runs_nothing(self, of_500):
        html = page.render(of_500)
        assert "default-src 'none'" in unescape(html)
        assert not re.search(r"(src|href)=\"(?!data:|#)", html)
        assert len(html) < 1_000_000


def test_the_document_tells_each_backend(unclear, every_kind):
    found = document.document(unclear)["backends"]
    assert [each["backend"] for each in found] == ["aten", "naive"]
    for each in found:
        assert each["counts"]["INCONCLUSIVE"] == 3
        assert each["sees"] > each["margin"] == 0.05
        assert (each["together"], each["blocks"]) == (None, None)
    told = {each["backend"]: each for each in document.document(every_kind)["backends"]}
    assert told["wild"]["sees"] > 0.05
    assert told["slow"]["sees"] is told["slow"]["blocks"] is None


def test_that_both_sides_took_turns_is_explained(command, here):
    for name in ("base", "new"):
        turned = [
            replace(each, samples_ns=(1000,) * 5, turns=(2, 2), cpu_ns=())
            for each in times("naive")
        ]
        save(here / name, turned, pair="x")
    said = "sampled in turn: a block's ratio is of the samples of each turn"
    assert said in command("compare", "base", "new", "--explain", "naive")[1]
    for name in ("apart", "other"):
        save(here / name, times("naive"), pair="y")
    assert said not in command("compare", "apart", "other", "--explain", "naive")[1]


def test_all_cases_together_are_told_as_what_they_are(command, here):
    cases = [case(seq_len=steps) for steps in (1, 2, 3)]
    for name, factor in (("base", 1.0), ("new", 1.3)):
        save(here / name, [r for of in cases for r in times("naive", factor, of=of)], pair="x")
    files = ("--junit", "j.xml", "--markdown", "m.md", "--html", "p.html")
    out = command("compare", "base", "new", *files)[1]
    xml, comment, html = ((here / name).read_text() for name in ("j.xml", "m.md", "p.html"))
    assert xml.count("all 3 cases together") == html.count("all 3 cases together") == 1
    for told in (out, comment):
        assert told.count("all cases together") == 1
        assert "REGRESSION +30" in told
    explained = command("compare", "base", "new", "--explain", "naive together")[1]
    assert "the geometric mean of 3 cases in each block" in explained
    assert "over 1 tested backends q = " in explained
    found = json.loads(command("compare", "base", "new", "--json")[1])
    schema = files_of("lstm_harness.model") / "schemas" / "verdicts.schema.json"
    jsonschema.validate(found, json.loads(schema.read_text()))
    assert {v["cases"] for v in found["verdicts"]} == {1, 3}


def test_files_are_written_beside_the_table(command, here):
    save(here / "old", times("naive"))
    save(here / "new", times("naive", 1.5))
    files = ("--junit", "out/j.xml", "--markdown", "out/m.md", "--html", "out/p.html")
    code, out, _ = command("check", "new", "--baseline", "old", *files)
    assert code == 1
    assert "REGRESSION" in out
    assert faults((here / "out" / "j.xml").read_bytes()) == []
    assert "### lstm-bench: Regression" in (here / "out" / "m.md").read_text()
    assert "<h1>Regression</h1>" in (here / "out" / "p.html").read_text()
    assert sorted(p.name for p in (here / "out").iterdir()) == ["j.xml", "m.md", "p.html"]


def test_machine_without_a_library_says_what_to_install(refused, here, monkeypatch):
    save(here / "old", times("naive"))
    monkeypatch.delitem(sys.modules, "lstm_harness.judge.exporters.junit")
    monkeypatch.delattr("lstm_harness.judge.exporters.junit")
    monkeypatch.setitem(sys.modules, "junitparser", None)
    line = refused("compare", "old", "old", "--junit", "j.xml")
    assert "pip install junitparser" in line
    assert not (here / "j.xml").exists()


def test_hostile_names_harm_no_terminal(command, here):
    save(here / "old", [r for name in CONTROL for r in times(name)])
    for form in ((), ("--json",), ("--explain", "lstm")):
        code, out, err = command("compare", "old", "old", *form)
        assert (code, err) == (0, "")
        assert not set("\x00\x1b\x07") & set(out)


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ([Kind.SAME], "No regression"),
        ([Kind.SAME, Kind.INCONCLUSIVE], "No regression proven"),
        ([Kind.INCONCLUSIVE], "Nothing could be told"),
        ([Kind.SAME, Kind.REGRESSION], "Regression"),
        ([Kind.SAME, Kind.MISSING], "Cases are missing"),
        ([Kind.INCOMPARABLE], "Not comparable"),
        ([], "Not comparable"),
        ([Kind.REGRESSION, Kind.INCORRECT], "A result is wrong"),
    ],
)
def test_headline(kinds, says):
    made = [Verdict("naive", "case", {}, kind) for kind in kinds]
    empty = side("x", [])
    assert words.headline(Comparison(empty, empty, Rules(), tuple(made))) == says


def test_figures_have_units_and_digits_enough():
    time = Verdict("naive", "x", {}, Kind.SAME, ratio=1.0213, low=1.0, high=5.0)
    assert words.figure(time, 1_234_567.0) == "1.235 ms"
    assert words.figure(time, 2.5e9) == "2.5 s"
    assert words.figure(time, 12.0) == "12 ns"
    assert words.figure(time, float("nan")) == ""
    assert words.change(time) == "+2.1% (+0.0% to 5x)"
    assert words.figure(time, 999_999.0) == "1 ms"
    memory = Verdict("naive", "x", {}, Kind.SAME, "peak_bytes", 0.0, 8.0, ratio=float("inf"))
    assert words.figure(memory, 1048576.0) == "1,048,576 B"
    assert words.change(memory) == "beyond all bounds (+8 B)"
