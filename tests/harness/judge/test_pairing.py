"""Two sides of a cell that took turns: what a block says beside a neighbour's bursts."""

import math
import random
from dataclasses import replace
from statistics import median, stdev

import pytest
from synthetic_runs import blocks, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.pairing import MOST_A_TURN, _shift
from lstm_harness.judge.verdict import Kind, Rules, judge

TURNS, SAMPLES = 8, 3
NS = 300_000
SLOWER = 1.1


def beside_bursts(chance, factor):
    """Turns of two sides: a spell slows whole turns, and the scheduler takes single samples."""
    base, new = [], []
    slowed = chance.random() < 0.5
    for _ in range(TURNS):
        slowed = slowed != (chance.random() < 0.2)
        for side, scale in ((base, 1.0), (new, factor)):
            turn = []
            for _ in range(SAMPLES):
                ns = NS * scale * (1.6 if slowed else 1.0) * chance.lognormvariate(0, 0.02)
                turn.append(int(ns + (3_000_000 if chance.random() < 0.15 else 0)))
            side.append(tuple(turn))
    return base, new


def flat(turns):
    return [ns for turn in turns for ns in turn]


def test_bursts_do_not_hide_a_difference_nor_make_one():
    chance = random.Random(0)
    for factor in (1.0, SLOWER):
        pairs = [beside_bursts(chance, factor) for _ in range(300)]
        shifts = [_shift(base, new) for base, new in pairs]
        medians = [math.log(median(flat(new)) / median(flat(base))) for base, new in pairs]
        assert abs(sum(shifts) / 300 - math.log(factor)) < 0.005
        assert stdev(shifts) < 0.04
        assert stdev(medians) > 2 * stdev(shifts)


def test_a_long_turn_says_what_all_its_samples_say():
    chance = random.Random(1)
    sides = [
        [tuple(int(NS * scale * chance.lognormvariate(0, 0.1)) for _ in range(400))] * 4
        for scale in (1.0, SLOWER)
    ]
    assert len(sides[0][0]) > MOST_A_TURN
    assert _shift(*sides) == pytest.approx(math.log(SLOWER), abs=0.02)


def in_turns(record_, turns):
    samples = (*flat(turns), NS)  # the last one is in no turn
    return replace(record_, samples_ns=samples, turns=tuple(map(len, turns)), cpu_ns=())


def test_a_verdict_goes_by_turns_where_both_sides_took_them():
    chance = random.Random(2)
    sides = [], []
    for block in range(6):
        base, new = beside_bursts(chance, 1.25)
        for side, turns in zip(sides, (base, new), strict=True):
            side.append(in_turns(record("naive", block=block), turns))
    (verdict,) = judge(*map(summarise, sides), Rules(paired=True))
    assert verdict.kind == Kind.REGRESSION
    assert verdict.ratio == pytest.approx(1.25, rel=0.03)


def test_without_turns_on_either_side_the_blocks_medians_count():
    turns = [(NS, NS)] * TURNS
    alone = blocks("naive", [NS] * 4)
    taken = [in_turns(one, turns) for one in blocks("naive", [NS] * 4)]
    for sides in ((alone, taken), (taken, alone), (alone, alone)):
        (verdict,) = judge(*map(summarise, sides), Rules(paired=True))
        assert verdict.ratio == pytest.approx(1.0)
