import pytest
from known_limits import cpu_limits
from synthetic_runs import HOSTILE, blocks, run

from lstm_harness.report.page import render
from lstm_harness.store.kept_limits import NONE_KEPT


def test_without_ceilings_one_line_says_why():
    page = render([run(blocks("aten", [100] * 3))])
    assert NONE_KEPT in page
    stale = "the ceilings kept are of another torch (2.12, now 2.13), so no floor"
    page = render([run(blocks("aten", [100] * 3), limits=None, no_limits=stale)])
    assert stale in page


def test_the_page_lists_the_ceilings_that_the_run_had():
    ceilings = cpu_limits(failures={"product float16 ieee oneDNN": "no"}, disturbed=3, rounds=8)
    page = render([run(blocks("aten", [100] * 3), limits=ceilings.to_dict())])
    for text in ("read L2", "400", "GB/s", "No figure for product float16 ieee oneDNN: no"):
        assert text in page
    assert "In 3 of them other work ran on this machine" in page


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_what_a_manifest_says_is_never_markup(hostile):
    made = cpu_limits(failures={hostile: hostile})
    stored = made.to_dict()
    stored["ceilings"] = [
        each | {"kind": hostile, "detail": hostile} for each in stored["ceilings"]
    ]
    records = blocks("aten", [100] * 3, floor_ns=50.0, floor_term=hostile)
    page = render([run(records, limits=stored)])
    for tag in ("<img src=x", "<b>bold", "<script>document", "javascript:1'>x"):
        assert tag not in page.partition('<script type="application/json"')[0]
    assert "{{ 7" not in hostile or "49" not in page.partition('id="rows"')[0][-200:]


def test_foreign_ceilings_are_told_and_not_shown():
    page = render([run(blocks("aten", [100] * 3), limits={"schema": 99})])
    assert "Its ceilings cannot be read" in page
