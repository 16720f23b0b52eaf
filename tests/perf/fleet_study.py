"""What verdicts and `--until` do on simulated fleets, whose devices differ: tables for the docs.

    PAGE=docs/verdicts-simulated.md
    PYTHONPATH=kernels:harness:tests/support python tests/perf/fleet_study.py $PAGE

Replaces what is in the page between the two marks of the study; without a page it prints. Exits
with 1 where a promise is not kept: A against A is silent, +5% is found, and `--until` needs at most
1.2 times the fewest blocks.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean

from simulated_fleet import Fleet, reached
from simulated_grids import FLAGS, Grid, race

from lstm_harness.judge.verdict import Kind

BEGIN, END = "<!-- fleet: begin -->", "<!-- fleet: end -->"
FLEET = Grid(cases=20, blocks=16, margin=0.02, machines=8, machine_spread=0.03, slow_machine=1.2)
SILENT, FOUND, MOST_BLOCKS = 0.01, 0.95, 1.2


def verdicts(grids: int, seed: int) -> tuple[list[str], bool]:
    """What is said of the same fleet without a change, with one, and with one odd device."""
    lines = [
        "| pairs | devices | A against A: grids flagged | +5% in one case: found | one odd device: "
        "grids flagged |",
        "|---|---:|---:|---:|---:|",
    ]
    kept = True
    for paired in (True, False):
        for machines in (3, 4, 8):
            fleet = replace(FLEET, paired=paired, machines=machines, blocks=2 * machines)
            still = race(fleet, grids, seed)
            slower = race(replace(fleet, slow=1, factor=1.05), grids, seed + 1)
            odd = race(replace(fleet, odd_machine=1.2), grids, seed + 2)
            found = slower.slow[Kind.REGRESSION] / slower.slow.total()
            alarms = still.flagged_grids + sum(still.together[kind] for kind in FLAGS)
            kept &= alarms <= SILENT * grids
            kept &= machines < FLEET.machines or found >= FOUND
            kept &= odd.flagged_grids <= SILENT * grids
            lines.append(
                f"| {'paired' if paired else 'two runs'} | {machines} | {still.flagged_grids} of "
                f"{grids} | {found:.0%} | {odd.flagged_grids} of {grids} |"
            )
    return lines, kept


def until(fleets: int) -> tuple[list[str], bool]:
    """How many blocks it takes, and the fewest that somebody who knew the spreads would plan."""
    lines = [
        "| spread of blocks | blocks at first | blocks | of the fewest | rounds | cases whose "
        "interval has the truth |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    kept = True
    for spreads in ((0.003, 0.03), (0.01, 0.01), (0.003, 0.1)):
        for first in (3, 5):
            found = [reached(Fleet(spreads=spreads, blocks=first), seed) for seed in range(fleets)]
            blocks, fewest = (sum(getattr(e, name) for e in found) for name in ("blocks", "fewest"))
            kept &= blocks <= MOST_BLOCKS * fewest
            between = " to ".join(dict.fromkeys(f"{spread:.1%}" for spread in spreads))
            lines.append(
                f"| {between} | {first} | {blocks / fleets:,.0f} "
                f"| {blocks / fewest:.2f} | {mean(e.rounds for e in found):.1f} | "
                f"{mean(e.covered for e in found):.1%} |"
            )
    return lines, kept


def study(grids: int, fleets: int, seed: int) -> tuple[str, bool]:
    """The section of the page, and whether every promise is kept."""
    judged, sure = verdicts(grids, seed)
    added, few = until(fleets)
    parts = [
        f"Verdicts: {grids} grids a figure, seed {seed}. A grid has {FLEET.cases} cases, blocks "
        f"spread by {FLEET.between:.0%}, and each device measures 2 blocks of each case on both "
        f"sides. The devices' levels spread by {FLEET.machine_spread:.0%}, and the last device is "
        f"slower by a fifth. The margin is {FLEET.margin:.0%}: with the usual 5%, a change of 5% "
        "cannot be proven. The odd device is slower by a fifth once more, on the new side alone, "
        "in every case.",
        "",
        *judged,
        "",
        f"`--until 1%`: {fleets} fleets a row, {Fleet.cases} cases each, on 8 such devices. Any "
        "device measures any block. The spread of a case's blocks is drawn between the two "
        "numbers, evenly on a logarithmic scale. The fewest blocks are those that somebody who "
        "knew each case's spread would have planned.",
        "",
        *added,
    ]
    return "\n".join(parts), sure and few


def main() -> int:
    """Study, then write or print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--grids", type=int, default=400, help="for each figure of verdicts")
    parser.add_argument("--fleets", type=int, default=50, help="for each row of --until")
    parser.add_argument("--seed", type=int, default=21)
    options = parser.parse_args()
    text, kept = study(options.grids, options.fleets, options.seed)
    if options.page:
        before, _, rest = options.page.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        options.page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    else:
        print(text)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
