"""What selftests saw of a machine, kept between them."""

import json

import pytest
from synthetic_runs import blocks, environment

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge import noise
from lstm_harness.judge.verdict import Rules, judge
from lstm_harness.model.case import CALL_FIELDS
from lstm_harness.model.errors import UserError

NS = 1_000_000
# Each spreads by 1% about a mean of its own.
SIDES = (0.99, 1.0, 1.01), (1.089, 1.1, 1.111)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def differing(ratio):
    base, new = (summarise(blocks("naive", [int(NS * r)] * 5)) for r in (1, ratio))
    return judge(base, new, Rules(paired=True))


def test_what_a_disturbed_spell_showed_is_not_kept():
    base = blocks("naive", [NS] * 5)
    wild = blocks("naive", [2 * NS] * 5, marked=(0, 1, 2))
    disturbed = judge(summarise(base), summarise(wild), Rules(paired=True))
    assert noise.keep(environment(), disturbed).margins == {}


def test_nothing_is_known_before_the_first_selftest():
    assert noise.kept(environment()).margins == {}


def test_largest_difference_is_the_margin_whichever_way_it_went():
    noise.keep(environment(), differing(1.02))
    noise.keep(environment(), differing(1 / 1.03))
    found = noise.keep(environment(), differing(1.01))
    assert found == noise.kept(environment())
    (margin,) = found.margins.values()
    assert margin == pytest.approx(0.03, abs=1e-4)


def test_margin_widens_what_the_judge_lets_pass():
    found = noise.keep(environment(), differing(1.2))
    base, new = (summarise(blocks("naive", [int(NS * r)] * 5)) for r in (1, 1.15))
    (alone,) = judge(base, new, Rules(paired=True))
    (known,) = judge(base, new, Rules(paired=True), found.margins)
    assert (alone.kind, known.kind) == ("REGRESSION", "SAME")


def test_what_was_kept_before_there_were_heads_and_calls_is_of_plain_ones():
    found = noise.keep(environment(), differing(1.2))
    head, line = found.file.read_text().splitlines()
    entry = json.loads(line)
    assert [entry["cell"].pop() for _ in CALL_FIELDS] == [0.0, "none", False]
    found.file.write_text(f"{head}\n{json.dumps(entry)}\n")
    assert noise.kept(environment()).margins == found.margins
    assert entry["cell"].pop(noise._HEADS) == 1
    found.file.write_text(f"{head}\n{json.dumps(entry)}\n")
    assert noise.kept(environment()).margins == found.margins


def test_the_spread_of_blocks_is_kept_beside_the_difference():
    base, new = (summarise(blocks("naive", [int(NS * r) for r in side])) for side in SIDES)
    spreads = noise.spreads_of(base, new)
    (spread,) = spreads.values()
    assert spread == pytest.approx(0.01, rel=0.02)
    verdicts = judge(base, new, Rules())
    assert noise.keep(environment(), verdicts).spreads == {}
    found = noise.keep(environment(), verdicts, spreads)
    assert found.spreads == pytest.approx(spreads, abs=1e-5)
    for factor in (3, 5):
        found = noise.keep(environment(), verdicts, dict.fromkeys(spreads, factor * spread))
    assert found.spreads == pytest.approx(dict.fromkeys(spreads, 3 * spread), rel=1e-3)
    assert found == noise.kept(environment())


def test_what_was_kept_before_there_were_spreads_is_read():
    found = noise.keep(environment(), differing(1.2))
    head, line = found.file.read_text().splitlines()
    entry = json.loads(line)
    assert entry.pop("spreads") == []
    found.file.write_text(f"{head}\n{json.dumps(entry)}\n")
    assert noise.kept(environment()) == found


@pytest.mark.parametrize("wrong", [[-0.1], "much", [None]])
def test_spread_that_is_none_is_refused(wrong):
    found = noise.keep(environment(), differing(1.2))
    head, line = found.file.read_text().splitlines()
    found.file.write_text(f"{head}\n{json.dumps(json.loads(line) | {'spreads': wrong})}\n")
    with pytest.raises(UserError, match=r"is not the noise of a machine"):
        noise.kept(environment())


def test_old_selftests_are_forgotten():
    noise.keep(environment(), differing(1.5))
    for _ in range(noise.MOST_REMEMBERED):
        found = noise.keep(environment(), differing(1.01))
    assert max(found.margins.values()) == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize("change", [{"host": "another"}, {"cpu": {"model": "A CPU", "threads": 1}}])
def test_another_machine_has_noise_of_its_own(change):
    noise.keep(environment(), differing(1.02))
    assert noise.kept(environment() | change).margins == {}


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 9}', '{"schema": 1}\n{"cell": []}', "x"])
def test_file_that_is_none_is_refused_with_what_to_do(content):
    found = noise.keep(environment(), differing(1.02))
    found.file.write_text(content)
    with pytest.raises(UserError, match=r"is not the noise of a machine .*; remove it"):
        noise.kept(environment())
