"""Which samples are judged: each as likely as another, and the slowest and the fastest."""

import random
from collections import Counter

import pytest

from lstm_harness.model.protocol import Draw
from lstm_harness.race import picks as module
from lstm_harness.race.picks import DRAWN, Pick, Picks

COUNT, STREAMS = 12, 4000


class Taken:
    """Counts how often it was given back."""

    closed = 0

    def close(self):
        self.closed += 1


def met(picks, elapsed_ns, number=0):
    """A sample that comes; None where nobody needs it."""
    places = picks.places_for(elapsed_ns)
    if not places:
        return None
    pick = Pick(Taken(), Draw("", str(number), ""), elapsed_ns)
    picks.keep(places, pick)
    return pick


@pytest.fixture
def seeded(monkeypatch):
    monkeypatch.setattr(module, "_CHANCE", random.Random(11))


# Two samples are picked for their times; each of the others can only be drawn.
@pytest.mark.parametrize("extremes", [(0, 1), (COUNT - 2, COUNT - 1), (3, 7)])
def test_every_sample_is_as_likely_to_be_drawn_as_another(seeded, extremes):
    times = [500] * COUNT
    times[extremes[0]], times[extremes[1]] = 900, 100
    counts = Counter()
    for _ in range(STREAMS):
        picks = Picks()
        for number, elapsed_ns in enumerate(times):
            met(picks, elapsed_ns, number)
        counts.update(int(pick.draw.inputs) for pick in picks.all())
    share = DRAWN / COUNT
    five_sigma = 5 * (share * (1 - share) / STREAMS) ** 0.5
    for number in range(COUNT):
        expected = 1.0 if number in extremes else share
        assert abs(counts[number] / STREAMS - expected) < five_sigma


def test_what_is_drawn_follows_from_no_seed():
    streams = []
    for _ in range(2):
        random.seed(0)
        picks = Picks()
        streams.append([tuple(picks.places_for(5)) for _ in range(300)])
    assert streams[0] != streams[1]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 30])
def test_the_slowest_and_the_fastest_are_always_there(count):
    chance = random.Random(5)
    for _ in range(200):
        picks = Picks()
        times = [chance.randrange(1, 50) for _ in range(count)]
        for so_far, elapsed_ns in enumerate(times, 1):
            met(picks, elapsed_ns)
            kept = [pick.elapsed_ns for pick in picks.all()]
            assert {min(times[:so_far]), max(times[:so_far])} <= set(kept)
            assert min(DRAWN, so_far) <= len(kept) <= DRAWN + 2


def test_what_is_let_go_of_is_given_back_once_and_what_is_kept_is_not():
    chance = random.Random(6)
    for _ in range(100):
        picks, ever = Picks(), []
        for number in range(40):
            pick = met(picks, chance.randrange(1, 20), number)
            ever += [pick] if pick else []
            kept = picks.all()
            assert len({id(each) for each in kept}) == len(kept)
            for each in ever:
                assert each.taken.closed == (0 if any(each is one for one in kept) else 1)
        assert len(ever) < 40
        picks.clear()
        assert picks.all() == []
        assert {each.taken.closed for each in ever} == {1}
        picks.clear()
        assert {each.taken.closed for each in ever} == {1}


def test_cleared_it_begins_anew(seeded):
    picks = Picks()
    for number in range(100):
        met(picks, 1 + number)
    picks.clear()
    again = [met(picks, 50, number) for number in range(DRAWN)]
    assert picks.all() == again
