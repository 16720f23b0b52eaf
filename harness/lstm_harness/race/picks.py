"""Which samples of a cell are judged: some drawn by lot, and the slowest and the fastest."""

import random
from dataclasses import dataclass, field

from lstm_harness.model.protocol import Draw
from lstm_harness.race.sealed import Sealed

DRAWN = 3
SLOWEST, FASTEST = DRAWN, DRAWN + 1
# Seeded by the system: nobody knows what is drawn.
_CHANCE = random.SystemRandom()


@dataclass(frozen=True)
class Pick:
    """A sample that was taken out of its worker's reach."""

    taken: Sealed
    draw: Draw
    elapsed_ns: int


@dataclass
class Picks:
    """Picks while samples come: each is as likely as any other to be among those drawn."""

    _met: int = 0
    _places: dict[int, Pick] = field(default_factory=dict)

    def places_for(self, elapsed_ns: int) -> list[int]:
        """The places that the next sample takes; nobody needs it where there are none."""
        place = self._met if self._met < DRAWN else _CHANCE.randrange(self._met + 1)
        self._met += 1
        places = [place] if place < DRAWN else []
        if SLOWEST not in self._places or elapsed_ns > self._places[SLOWEST].elapsed_ns:
            places.append(SLOWEST)
        if FASTEST not in self._places or elapsed_ns < self._places[FASTEST].elapsed_ns:
            places.append(FASTEST)
        return places

    def keep(self, places: list[int], pick: Pick) -> None:
        """Put a sample in place of those that were there."""
        before = self.all()
        self._places |= dict.fromkeys(places, pick)
        self._let_go(before)

    def all(self) -> list[Pick]:
        """Every sample that was picked, once."""
        return list({id(pick): pick for pick in self._places.values()}.values())

    def clear(self) -> None:
        """Start again."""
        before = self.all()
        self._places, self._met = {}, 0
        self._let_go(before)

    def _let_go(self, before: list[Pick]) -> None:
        kept = {id(pick) for pick in self._places.values()}
        for pick in before:
            if id(pick) not in kept:
                pick.taken.close()
