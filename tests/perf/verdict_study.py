"""How often a verdict is wrong, and what it can find, on simulated grids: tables for the docs.

    PAGE=docs/verdicts-simulated.md
    PYTHONPATH=kernels:harness:tests/support python tests/perf/verdict_study.py $PAGE

Replaces what stands in the page between the two marks of the study; without a page it prints.
Exits with 1 where a promise of docs/method.md, A verdict, is not kept.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from simulated_grids import FLAGS, Grid, Outcome, race

from lstm_harness.judge.verdict import Kind

BEGIN, END = "<!-- study: begin -->", "<!-- study: end -->"
EFFECTS = (1.02, 1.05, 1.075, 1.10, 1.15, 1.20)
BLOCKS = (3, 5, 8, 12, 16)
SPREADS = (0.01, 0.05)
SESSIONS = (0.01, 0.02, 0.03, 0.05)
CASES = 100
# Of grids and of cases, where the spread is 1%; where it is wider, of grids what q allows.
WRONG_GRIDS, WRONG_CASES, FOUND = 0.01, 0.001, 0.95
WRONG_GRIDS_WIDER = 0.05


def false_alarms(grids: int, seed: int) -> tuple[list[str], bool]:
    """A against A: how many grids and cases were flagged, and whether few enough."""
    lines = [
        "| between-run spread | blocks | pairs | grids flagged | cases flagged | cases `SAME` |",
        "|---|---:|---|---:|---:|---:|",
    ]
    kept = True
    for spread, spells in ((0.01, False), (0.05, False), (0.01, True)):
        for blocks in BLOCKS:
            for paired in (True, False):
                grid = Grid(CASES, blocks, spread, spread / 2, paired, spells=spells)
                found = race(grid, grids, seed)
                total = found.others.total()
                few = WRONG_GRIDS if spread == SPREADS[0] else WRONG_GRIDS_WIDER
                kept &= found.flagged_grids <= few * grids
                kept &= found.flagged <= WRONG_CASES * total
                how = f"{spread:.0%}, every fifth block 10 times" if spells else f"{spread:.0%}"
                lines.append(
                    f"| {how} | {blocks} | {_pairs(paired)} | {found.flagged_grids} of {grids} | "
                    f"{found.flagged} of {total:,} | {found.others[Kind.SAME] / total:.1%} |"
                )
    return lines, kept


def sessions(grids: int, seed: int) -> list[str]:
    """A against A in two runs between which the machine became faster or slower as a whole."""
    lines = [
        "| spread of the shared factor | blocks | grids flagged | cases flagged |",
        "|---|---:|---:|---:|",
    ]
    for session in SESSIONS:
        for blocks in (5, 8, 16):
            grid = Grid(CASES, blocks, SPREADS[0], SPREADS[0] / 2, paired=False, session=session)
            found = race(grid, grids, seed)
            share = found.flagged / found.others.total()
            flagged = f"{found.flagged_grids} of {grids}"
            lines.append(f"| {session:.0%} | {blocks} | {flagged} | {share:.1%} |")
    return lines


def twice(grids: int, seed: int) -> tuple[list[str], bool]:
    """What `ab` says, which measures twice where the first look does not settle a case."""
    lines = [
        "| spread | blocks | A against A: cases flagged | +5%: `SAME` | +10%: found |",
        "|---|---:|---:|---:|---:|",
    ]
    kept = True
    for spread in SPREADS:
        for blocks in (5, 8):
            grid = Grid(CASES, blocks, spread, spread / 2, slow=20, twice=True)
            still, edge, slower = (
                race(replace(grid, factor=factor), grids, seed) for factor in (1.0, 1.05, 1.1)
            )
            flagged = still.flagged + sum(still.slow[kind] for kind in FLAGS)
            kept &= flagged <= WRONG_CASES * CASES * grids
            same, found = _share(edge, Kind.SAME), _share(slower, Kind.REGRESSION)
            lines.append(
                f"| {spread:.0%} | {blocks} | {flagged} of {CASES * grids:,} | {_percent(same)} | "
                f"{_percent(found)} |"
            )
    return lines, kept


def power(slow: int, grids: int, seed: int) -> tuple[list[str], bool]:
    """How often a true slow-down is found, over effect, blocks, spread and pairing."""
    titles = " | ".join(f"{100 * (effect - 1):+.3g}%" for effect in EFFECTS)
    lines = [f"| spread | pairs | blocks | {titles} |", "|---|---|---:|" + "---:|" * len(EFFECTS)]
    kept = True
    for spread in SPREADS:
        for paired in (True, False):
            for blocks in BLOCKS:
                grid = Grid(CASES, blocks, spread, spread / 2, paired, slow)
                cells = []
                for effect in EFFECTS:
                    found = race(replace(grid, factor=effect), grids, seed)
                    kept &= found.slow[Kind.IMPROVEMENT] == 0
                    kept &= effect < 1.1 or spread > 0.01 or found.slow[Kind.SAME] == 0
                    promised = effect >= 1.1 and blocks >= 8 and spread == 0.01
                    kept &= not promised or _share(found, Kind.REGRESSION) >= FOUND
                    same = _share(found, Kind.SAME)
                    told = f" ({_percent(same)} `SAME`)" if same else ""
                    cells.append(f"{_percent(_share(found, Kind.REGRESSION))}{told}")
                lines.append(
                    f"| {spread:.0%} | {_pairs(paired)} | {blocks} | {' | '.join(cells)} |"
                )
    return lines, kept


def _share(found: Outcome, kind: Kind) -> float:
    return found.slow[kind] / found.slow.total()


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0 < share < 0.01 else f"{share:.0%}"


def _pairs(paired: bool) -> str:
    return "paired" if paired else "two runs"


def study(grids: int, aa_grids: int, seed: int) -> tuple[str, bool]:
    """The section of the page, and whether every promise is kept."""
    fewer = max(1, grids // 4)
    alarms, quiet = false_alarms(aa_grids, seed)
    one, found_one = power(1, grids, seed)
    many, found_many = power(20, fewer, seed)
    both, quiet_twice = twice(fewer, seed)
    parts = [
        f"Every table is simulated with seed {seed}. A grid has {CASES} cases; the margin is 5% "
        "and q is 0.05. A block's time is the median of 12 samples. Their noise is half the "
        "between-run spread and has an autocorrelation of 0.6. In pairs, a drift of the same "
        "spread affects both sides.",
        "",
        "## A against A",
        "",
        f"Both sides are the same, {aa_grids} grids a row. Where the spread is {SPREADS[0]:.0%}, "
        f"at most {WRONG_GRIDS:.0%} of grids and {WRONG_CASES:.1%} of cases may be flagged. At "
        f"{SPREADS[1]:.0%} at most {WRONG_GRIDS_WIDER:.0%} of grids may be, which is what q "
        "allows.",
        "",
        *alarms,
        "",
        "## Two runs on a machine that changed",
        "",
        f"Both sides are the same, {aa_grids} grids a row, blocks of {SPREADS[0]:.0%}. Each run "
        "has a factor that all its blocks share; the first column is its standard deviation. The "
        "blocks do not show it, so it is taken for a change of the code. `ab` is free of it: "
        "there both sides share the factor.",
        "",
        *sessions(aa_grids, seed),
        "",
        f"## One slow case in {CASES}",
        "",
        f"The share of {grids} grids in which the slow case is a `REGRESSION`, by how much slower "
        "it is. In parentheses: the share in which it is called `SAME`, if there are any.",
        "",
        *one,
        "",
        f"## Twenty slow cases in {CASES}",
        "",
        "The share of slow cases that are found, as when one backend of five became slower. The "
        "correction is milder where more cases are slow.",
        "",
        *many,
        "",
        "## Measured twice, as `ab` does",
        "",
        f"20 of {CASES} cases are slower, {fewer} grids a figure. `blocks` are those of the first "
        "measurement.",
        "",
        *both,
    ]
    return "\n".join(parts), quiet and quiet_twice and found_one and found_many


def main() -> int:
    """Study, then write or print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--grids", type=int, default=200, help="for each cell of the power table")
    parser.add_argument("--aa-grids", type=int, default=400, help="for each row of A against A")
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args()
    text, kept = study(options.grids, options.aa_grids, options.seed)
    if options.page:
        before, _, rest = options.page.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        options.page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    else:
        print(text)
    print("every promise is kept" if kept else "a promise is NOT kept", file=sys.stderr)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
