"""Two sides of a grid with known truth, as Summaries, made without a record.

A block's time is the case's own, times a between-run factor, times the median of samples whose
noise is autocorrelated. Where the sides are paired, a drift of the same spread hits both alike.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from synthetic_runs import case

from lstm_harness.analysis.summary import summary_of
from lstm_harness.judge.confirm import confirmed, doubtful
from lstm_harness.judge.pairing import ALL_CASES
from lstm_harness.judge.verdict import Kind, Rules, Verdict, judge

FLAGS = (Kind.REGRESSION, Kind.IMPROVEMENT)
NS = 1_000_000.0
SAMPLES = 12
# Of one sample's noise, how much is left in the next.
AUTOCORRELATION = 0.6
# How often a block falls into a noisy spell, and how much noisier it is then.
SPELL_SHARE, SPELL_FACTOR = 0.2, 10.0


@dataclass(frozen=True)
class Grid:
    """What is simulated. `slow` cases of the new side take `factor` times as long.

    `session` is the spread (SD) of a factor that all blocks and cases of one side share: what an
    hour does to a machine, which no number of blocks within it tells. With `twice` a case that the
    first look flags or does not settle is measured once more, in as many blocks, as `ab` does.

    Blocks are dealt to `machines` in turn, the same on both sides. Their levels spread by
    `machine_spread`; the last one's times are longer by `slow_machine`, and by `odd_machine` those
    of its new side alone.
    """

    cases: int = 100
    blocks: int = 8
    between: float = 0.01
    within: float = 0.005
    paired: bool = True
    slow: int = 0
    factor: float = 1.0
    spells: bool = False
    session: float = 0.0
    twice: bool = False
    margin: float = 0.05
    machines: int = 1
    machine_spread: float = 0.0
    slow_machine: float = 1.0
    odd_machine: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """Over all grids: kinds of the cases slow in truth, of the others, and grids with a flag there.

    The cases that are slow are those of the first lengths. `together` counts the verdicts on all
    cases as one, where sides are paired.
    """

    slow: Counter
    others: Counter
    flagged_grids: int
    together: Counter

    @property
    def flagged(self) -> int:
        """Cases flagged of which nothing is to be told."""
        return sum(self.others[kind] for kind in FLAGS)


def race(grid: Grid, grids: int, seed: int) -> Outcome:
    """Judge so many simulated grids."""
    rng, empty = np.random.default_rng(seed), template(grid.cases)
    slow, others, together, flagged_grids = Counter(), Counter(), Counter(), 0
    for _ in range(grids):
        before = sum(others[kind] for kind in FLAGS)
        for verdict in _verdicts(grid, rng, empty):
            if verdict.cases > 1:
                together[verdict.kind] += 1
            else:
                (slow if verdict.case["seq_len"] <= grid.slow else others)[verdict.kind] += 1
        flagged_grids += sum(others[kind] for kind in FLAGS) > before
    return Outcome(slow, others, flagged_grids, together)


def _verdicts(grid: Grid, rng: np.random.Generator, empty) -> list[Verdict]:
    """What is said of one grid in the end."""
    rules = Rules(margin=grid.margin, paired=grid.paired)
    base, new = sides(grid, rng, empty)
    first = judge(base, new, rules)
    if not grid.twice:
        return first
    doubt = {verdict.label for verdict in doubtful(first)}
    whole = ALL_CASES in doubt
    more = [side[side["label"].isin(doubt) | whole] for side in sides(grid, rng, empty)]
    both = [_with_more_blocks(*each) for each in zip((base, new), more, strict=True)]
    return confirmed(first, judge(*more, rules), judge(*both, rules))


def _with_more_blocks(side, more):
    """A side whose cases have a second measurement's blocks too, those that were in doubt."""
    side, blocks = side.copy(), len(side["block_ids"].iloc[0])
    for place, row in more.iterrows():
        ids = (*side.at[place, "block_ids"], *(blocks + block for block in row["block_ids"]))
        side.at[place, "block_ids"] = ids
        for name in ("block_medians_ns", "block_efforts", "block_machines"):
            side.at[place, name] = (*side.at[place, name], *row[name])
    return side


def template(cases: int):
    """A Summary of as many cases, its times to be filled in; plain objects, which are fast."""
    cells = {("naive", case(seq_len=steps)): {} for steps in range(1, cases + 1)}
    frame = summary_of(cells).astype(object)
    return frame.assign(marked_share=0.0)


def sides(grid: Grid, rng: np.random.Generator, empty):
    """Base and new of one simulated grid; `empty` is a template of its size."""
    drift = rng.normal(0, grid.between, (1, grid.blocks)) if grid.paired else 0.0
    base, new = (_log_medians(grid, rng) + drift for _ in range(2))
    if grid.session:
        base, new = base + rng.normal(0, grid.session), new + rng.normal(0, grid.session)
    new[: grid.slow] += np.log(grid.factor)
    where = np.arange(grid.blocks) % grid.machines
    level = rng.normal(0, grid.machine_spread, grid.machines) if grid.machine_spread else None
    if level is not None:
        level[-1] += np.log(grid.slow_machine)
        base, new = base + level[where], new + level[where]
    new[:, where == grid.machines - 1] += np.log(grid.odd_machine)
    names = tuple(f"machine {number}" for number in where) if grid.machines > 1 else ()
    return _filled(empty, base, names), _filled(empty, new, names)


def _log_medians(grid: Grid, rng: np.random.Generator):
    shape = grid.cases, grid.blocks
    spread = np.full(shape, grid.between)
    if grid.spells:
        spread *= np.where(rng.random(shape) < SPELL_SHARE, SPELL_FACTOR, 1.0)
    noise = rng.normal(0, grid.within, (*shape, SAMPLES))
    for place in range(1, SAMPLES):
        fresh = np.sqrt(1 - AUTOCORRELATION**2) * noise[..., place]
        noise[..., place] = AUTOCORRELATION * noise[..., place - 1] + fresh
    return rng.normal(0, 1, shape) * spread + np.median(noise, axis=-1)


def _filled(empty, logs, machines):
    times = NS * np.exp(logs)
    ids = tuple(range(times.shape[1]))
    unknown = (float("nan"),) * len(ids)
    return empty.assign(
        block_ids=[ids] * len(times),
        block_medians_ns=list(map(tuple, times.tolist())),
        block_efforts=[unknown] * len(times),
        block_machines=[machines] * len(times),
        median_ns=np.median(times, axis=1),
    )
