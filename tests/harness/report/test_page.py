import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from markupsafe import Markup
from synthetic_runs import HOSTILE, blocks, case, grid, record, run
from written_pages import unpacked

from lstm_harness.report.page import render, run_labels


class Page(HTMLParser):
    """What a test asks of a page: its elements, and the text outside scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self.words, self.attributes = [], [], [], []
        self._open = None
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.words.append(data)

    @property
    def payload(self):
        return json.loads(unpacked(self.scripts[0]))


def page_of(*runs):
    return Page(render(runs))


def test_a_thousand_cells_stay_under_three_megabytes():
    axes = {"hidden_size": (64, 128, 256, 512), "seq_len": (8, 16, 32, 64, 128)}
    records = list(grid(block_count=3, sample_count=2, batch=(1, 2, 4, 8, 16), **axes))
    assert len(records) == 3 * 1000
    assert len(render([run(records)]).encode()) < 3_000_000


ONE = [record()]
EDGES = {
    "nothing": [],
    "one-sample": [record(samples_ns=(5,))],
    "one-backend": list(grid(["naive"], block_count=3)),
    "one-block": list(grid(block_count=1)),
    "nothing-correct": [record(status="incorrect"), record("aten", status="crashed")],
    "unsupported-alone": [record(status="unsupported")],
    "not-finite": [record(status="incorrect", errors={"y": None, "h_n": 1e-7})],
    "unchecked": [record(errors={}, tolerance=None)],
    "huge-and-tiny": [record(samples_ns=(1,)), record("aten", samples_ns=(10**15,))],
    "padded": [record(of=case(lengths="uniform:1:32"))],
}


@pytest.mark.parametrize("records", EDGES.values(), ids=EDGES)
def test_every_kind_of_run_makes_a_whole_page(records):
    page = page_of(run(records))
    for question in ("Which backend should I use?", "Can I trust it?", "Where are the raw num"):
        assert question in page.text
    rows = page.payload["table"]["rows"]
    assert len(rows) == len({(r.backend, r.case) for r in records})
    assert "nan" not in re.findall(r"\w+", page.text.lower())


def test_what_the_page_says_when_nothing_is_correct():
    page = page_of(run(EDGES["nothing-correct"]))
    assert "No backend gave a correct result" in page.text
    assert "incorrect on purpose" in page.text
    assert "crashed on purpose" in page.text


def test_an_incomplete_run_says_how_much_there_is():
    page = page_of(run(ONE, plan={"planned_records": 1234}, end=None))
    assert "Incomplete: 1 of 1,234 planned records." in page.text
    assert "not finished" in page.text


def test_a_run_that_its_time_budget_cut_says_so():
    page = page_of(run(ONE, plan={"planned_records": 1234}))
    assert "Incomplete: 1 of 1,234 planned records; the time budget was spent." in page.text


def test_a_whole_run_says_nothing_of_the_kind():
    assert "Incomplete" not in page_of(run(ONE)).text
    assert "cut off" not in page_of(run(ONE)).text


def test_a_torn_run_says_so():
    assert "cut off while it was written" in page_of(run(ONE, torn=True)).text


def test_marked_samples_are_told():
    page = page_of(run([record(samples_ns=(1, 2, 3, 4), marked=(1,))]))
    assert "25.0% of the samples" in page.text


def test_backends_that_did_not_run_share_one_line():
    page = page_of(run(ONE))
    assert "Did not run: cudnn, triton (needs a CUDA device; this machine has none)." in page.text


def test_a_skip_without_a_record_is_still_listed():
    skip = {"backend": "triton", "case": 0, "status": "unsupported", "reason": "needs CUDA"}
    page = page_of(run(ONE, plan={"skips": [skip]}))
    assert "needs CUDA" in page.text
    assert ONE[0].case.label() in page.text


def test_a_manifest_of_little_still_makes_a_page():
    bare = run(ONE)
    bare.manifest.clear()
    assert "Which backend should I use?" in page_of(bare).text


def test_the_page_names_the_command_of_its_figures():
    page = page_of(run(ONE, command=["/opt/env/bin/lstm-bench", "run", "--label", "two words"]))
    assert "lstm-bench run --label 'two words'" in page.text
    assert "/opt/env" not in page.text


def test_several_runs_are_told_apart_and_never_ranked_against_each_other():
    fast, slow = run(blocks("a", [10] * 3), label="new"), run(blocks("b", [99] * 3), label="old")
    page = page_of(fast, slow)
    assert page.payload["axes"] == [{"name": "run", "values": ["new", "old"]}]
    squares = [one["map"]["cells"][0][0] for one in page.payload["slices"]]
    assert [square["state"] for square in squares] == ["alone", "alone"]
    assert "2 runs side by side" in page.text


def test_runs_of_one_label_get_names_of_their_own():
    same = [run(ONE, label="x", id="i"), run(ONE, label="x", id="i"), run(ONE, label="y")]
    assert len(set(run_labels(same))) == 3
    assert run_labels([run(ONE, label="x", id="x")] * 2) == ["x #1", "x #2"]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_value_is_only_text_wherever_it_stands(name):
    records = [
        record(name, errors={name: 1e-7}),
        record("a" + name, status="crashed", reason=name + "."),
    ]
    page = page_of(
        run(
            records,
            label=name,
            command=["lstm-bench", name],
            environment={name: {name: name}, "host": name, "cpu": {"model": name}},
            plan={"absent": [{"backend": name, "reason": name}]},
        ),
        run(ONE, label=name),
    )
    harmless = page_of(run([record()]), run(ONE))
    assert page.tags.count("script") == harmless.tags.count("script") == 4
    assert page.scripts[2:] == harmless.scripts[2:]
    assert "img" not in page.tags
    assert "b" not in {tag for tag in page.tags if tag not in harmless.tags}
    assert not [a for _, a in page.attributes if any(key.startswith("on") for key in a)]
    assert name in [backend["name"] for backend in page.payload["backends"]]


def test_only_the_two_scripts_of_the_package_may_run():
    page = page_of(run(ONE))
    policy = next(a["content"] for _, a in page.attributes if "http-equiv" in a)
    own, plotly = page.scripts[2:]
    for script in (own, unpacked(plotly)):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]


def test_the_page_asks_for_nothing_outside_itself():
    addresses = [a.get("src") or a.get("href") for _, a in page_of(run(ONE)).attributes]
    assert {one for one in addresses if one and not one.startswith("#")} == {"data:,"}


def test_the_list_of_questions_names_every_section_in_order():
    page = page_of(run(grid()))
    links = [a["href"] for tag, a in page.attributes if tag == "a" and a.get("class") != "skip"]
    sections = [f"#{a['id']}" for tag, a in page.attributes if tag == "section"]
    assert links == sections
    first = ["#map", "#ladder", "#heaviness", "#trust", "#throughput-over-t"]
    assert sections[:5] == first
    assert sections[-4:] == ["#samples", "#refusals", "#environment", "#rows"]


def test_panels_are_named_apart_and_those_with_figures_reach_the_script():
    page = page_of(run(grid()))
    ids = [a["id"] for _, a in page.attributes if "id" in a]
    assert len(ids) == len(set(ids))
    drawn = [panel["id"] for panel in page.payload["panels"]]
    assert {"throughput-over-t", "throughput-over-b", "ladder", "memory"} <= set(drawn)
    for panel in page.payload["panels"]:
        assert len({json.dumps(figure["key"]) for figure in panel["figures"]}) == len(
            panel["figures"]
        )


def test_every_figure_can_be_chosen_by_the_switches_and_the_map():
    page = page_of(run(grid()), run(grid(seed=1), label="again"))
    axes = {axis["name"]: axis["values"] for axis in page.payload["axes"]}
    axes |= {
        name: sorted({size for one in page.payload["slices"] for size in one["map"][letter]})
        for name, letter in (("seq_len", "t"), ("batch", "b"))
    }
    for panel in page.payload["panels"]:
        for figure in panel["figures"]:
            for name, value in zip(panel["by"], figure["key"], strict=True):
                assert value in axes[name], (panel["id"], name)


def test_what_stands_above_the_map_is_the_callers():
    html = render([run(ONE)], Markup('<section id="verdicts">told</section>'))
    assert html.index("told") < html.index('id="map"')
    assert 'id="verdicts"' not in render([run(ONE)])
