"""Does the judge raise false alarms on this machine, and does it find a real slowdown of 10%?

    python tests/perf/judge_trials.py [--trials 20] [--burner SEED]

Runs `lstm-bench selftest` and `lstm-bench ab`, so many times each in turn, on 20 cases of `naive`
and `aten`. `ab` compares this revision with a commit upon it, made in a clone, whose `naive` does
more work in each step. A trial is a new user's: its selftest knows no noise of this machine, and
its `ab` what that one selftest kept. Prints a line a command, then the counts, and exits with 1
unless no selftest raised an alarm, `ab` found `naive` slower in 19 trials of 20 and ended with 1
there, and never accused `aten`.

With `--burner` another process takes every core in bursts meanwhile (`burner.py`), by another seed
in each trial; `naive` must then be found in 15 trials of 20. Found or not, its cases together are
never called the SAME.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from burner import burning

ROOT = Path(__file__).parents[2]
NAIVE = Path("kernels/lstm_kernels/backends/naive.py")
FAST = "from_x = input_product(code, x_t, weights)"
# Two copies of [B, 4H], forward and backward: about a tenth of a step at these sizes.
SLOW = "from_x = input_product(code, x_t, weights).clone().clone()"
HOW = (
    "--backend naive,aten --hidden 32,64,96,128,192 --seq-len 8,16 --batch 1 "
    "--pass inference,forward --blocks 6 --threads 1 --time-budget 15 --quiet --json"
)
# The share of trials in which the slowdown must be found, on a quiet machine and beside a burner.
FOUND = 0.95
FOUND_BESIDE_A_BURNER = 0.75


def main() -> int:
    """Run the trials and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--burner", type=int, default=None, metavar="SEED")
    given = parser.parse_args()
    trials, burner = given.trials, given.burner
    alarms = found = accused = hidden = 0
    seconds = {"selftest": 0.0, "ab": 0.0}
    with tempfile.TemporaryDirectory() as name:
        clone = slowed_clone(Path(name))
        print(f"{trials} trials each: lstm-bench selftest {HOW}")
        print(f"and lstm-bench ab HEAD~1 HEAD, where naive's step has: {SLOW}")
        if burner is not None:
            print(f"beside a burner on every core, seeds {burner} to {burner + trials - 1}")
        sys.stdout.flush()
        for trial in range(1, trials + 1):
            beside = nullcontext() if burner is None else burning(burner + trial - 1)
            with beside:
                cache = Path(name) / f"cache-{trial}"
                code, itself, took_s = command(clone, cache, "selftest", *HOW.split())
                seconds["selftest"] += took_s
                alarms += code != 0
                tell(trial, "selftest", took_s, code, itself["verdicts"], itself["false_alarms"])
                code, judged, took_s = command(clone, cache, "ab", "HEAD~1", "HEAD", *HOW.split())
                seconds["ab"] += took_s
            slower = [v["backend"] for v in judged["verdicts"] if v["kind"] == "REGRESSION"]
            found += code == 1 and "naive" in slower
            accused += "aten" in slower
            hidden += is_called_same(judged["verdicts"])
            tell(trial, "ab", took_s, code, *said_of(judged["verdicts"], slower))
    print(f"selftests that did not end with 0: {alarms} of {trials}")
    print(f"ab found naive slower: {found} of {trials}; accused aten: {accused} of {trials}")
    print(f"ab called all cases of naive together the same: {hidden} of {trials}")
    for what, total_s in seconds.items():
        print(f"a {what} took {total_s / trials:.0f} s on average")
    least = FOUND if burner is None else FOUND_BESIDE_A_BURNER
    return 1 if alarms or accused or hidden or found < least * trials else 0


def is_called_same(verdicts: list[dict[str, Any]]) -> bool:
    """Whether the slowed backend's cases together are said to be as fast as before."""
    together = [v for v in verdicts if v["backend"] == "naive" and v["cases"] > 1]
    return any(v["kind"] == "SAME" for v in together)


def said_of(verdicts: list[dict[str, Any]], slower: list[str]) -> list[str]:
    """What an `ab` said, in short."""
    ratios = sorted(
        v["ratio"]
        for v in verdicts
        if v["backend"] == "naive" and v["measure"] == "time" and v["ratio"]
    )
    together = {v["backend"]: v for v in verdicts if v["cases"] > 1}
    said = [f"naive {slower.count('naive')}, aten {slower.count('aten')} called slower"]
    said += [f"naive's median ratio {ratios[len(ratios) // 2]:.3f}"] if ratios else []
    said += [f"{name} together {v['kind']} {v['ratio'] or 0:.3f}" for name, v in together.items()]
    return said


def slowed_clone(folder: Path) -> Path:
    """A clone of this repository with one commit more."""
    clone = folder / "clone"
    git(folder, "clone", "--quiet", "--shared", str(ROOT), str(clone))
    text = (clone / NAIVE).read_text()
    if text.count(FAST) != 1:
        sys.exit(f"{NAIVE} no longer says {FAST!r}; nothing was measured")
    (clone / NAIVE).write_text(text.replace(FAST, SLOW))
    git(clone, "-c", "user.name=trial", "-c", "user.email=trial", "commit", "-qam", "slower")
    return clone


def git(folder: Path, *words: str) -> None:
    """Run git, and end here where it fails."""
    subprocess.run(["git", *words], cwd=folder, check=True)


def command(clone: Path, cache: Path, *words: str) -> tuple[int, dict[str, Any], float]:
    """A command's exit code, what it prints as JSON, and how long it took."""
    started = time.monotonic()
    roots = f"{ROOT / 'kernels'}:{ROOT / 'harness'}"
    done = subprocess.run(
        [sys.executable, "-m", "lstm_harness", *words],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": roots, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        sys.exit(f"{' '.join(words)}: exit {done.returncode}: {done.stderr}")
    return done.returncode, json.loads(done.stdout), time.monotonic() - started


def tell(trial: int, what: str, took_s: float, code: int, *said: object) -> None:
    """A line a command, at once."""
    print(f"{trial:2} {what:8} {took_s:4.0f} s  exit {code}; {'; '.join(map(str, said))}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
