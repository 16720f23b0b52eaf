"""What `recommend` prints, and the last line of `capture`."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.recommendation import OWN_MIXED, Advice, Part
from lstm_harness.console import output
from lstm_harness.interop.captured_suite import Captured
from lstm_harness.interop.watched_program import Notes
from lstm_harness.model.text import count
from lstm_harness.store.run_folder import Run

AGAINST = "torch.nn takes"
COLUMNS = ("layer", "case", "calls", "torch.nn", "share", "advised", AGAINST, "alone")


def came_of(made: Captured, notes: Notes, out: Path) -> str:
    """What came of a program's run, in one line: the suite and its use, or why there is none."""
    if made.text:
        race = shlex.join(["lstm-bench", "recommend", str(out)])
        layers, cases = count(made.layers, "layer"), count(made.cases, "case")
        return f"{out}: {layers}, {cases}, {count(made.calls, 'call')}; race them with: {race}"
    if not notes.python:
        why = (
            "no Python of it could be looked into; expected one that reads PYTHONPATH, "
            "which -E, -I and -S forbid"
        )
    elif not notes.torch:
        why = "it imported no torch.nn"
    else:
        why = "no call of a torch.nn.LSTM, GRU or RNN, or of one of lstm_kernels, that can be raced"
    return f"{out} was not written: {why}"


def write(run: Run, page: Path | None, advice: Advice) -> None:
    """The sentence, who stands where, a line a layer and case; last where the report is.

    Args:
        page: the report; None where none was made.
    """
    for name, reason in advice.refused.items():
        output.warning(f"{name} is out: {reason}")
    if advice.unmeasured:
        cases = count(len({use.case for use in advice.unmeasured}), "case")
        go_on = shlex.join(["lstm-bench", "recommend", "--resume", str(run.folder)])
        output.warning(f"{cases} not measured, and not in this advice; measure more with: {go_on}")
    output.line(sentence(advice))
    standings = output.empty_table("backend", "all calls", AGAINST)
    for each in advice.standings:
        shown = "" if each.backend == advice.own else _ratio(each.ratio)
        standings.add_row(Text(each.backend), output.duration(each.total_ns), shown)
    output.print_table(standings)
    table = output.empty_table(*COLUMNS)
    for part in advice.parts:
        table.add_row(*map(Text, _cells(part)))
    output.print_table(table)
    output.path(page or run.folder)


def sentence(advice: Advice) -> str:
    """The advice in one sentence."""
    if advice.backend is None:
        return "No backend ran every case, so there is none to recommend for all of them."
    fastest = advice.standings[0] if advice.standings else None
    ratio = fastest.ratio if fastest else None
    own = f"torch.nn's own choice ({advice.own})" if advice.own != OWN_MIXED else "torch.nn's own"
    if advice.own is None:
        total = output.duration(advice.advised_ns or 0)
        return (
            f"Use {advice.backend}, the fastest: all calls take {total}; "
            "torch.nn's own choice did not run every case, so what is saved is not known."
        )
    if advice.backend == advice.own:
        if fastest is None or fastest.backend == advice.backend or not (ratio and ratio.tie):
            return f"Stay with {own}: no other backend that ran every case is faster."
        return (
            f"Stay with {own}: {fastest.backend} is the fastest, "
            f"and ties with it: torch.nn takes {_as_long(ratio)}."
        )
    old, new = advice.own_ns or 0.0, advice.advised_ns or 0.0
    times = f"all calls take {output.duration(new)} instead of {output.duration(old)} with {own}"
    saved = f"{output.duration(old - new)} ({1 - new / old:.0%}) saved"
    sure = "beyond noise" if ratio and ratio.tie is False else "not known to be beyond noise"
    return f"Use {advice.backend}: {times}, {saved}, {sure}: torch.nn takes {_as_long(ratio)}."


def document(run: Run, page: Path | None, advice: Advice) -> dict[str, Any]:
    """What `recommend --json` prints; its schema is recommend.schema.json."""
    return {
        "schema": 1,
        "run": str(run.folder),
        "report": None if page is None else str(page),
        "sentence": sentence(advice),
        "backend": advice.backend,
        "own": advice.own,
        "own_ns": advice.own_ns,
        "advised_ns": advice.advised_ns,
        "standings": [
            {"backend": each.backend, "total_ns": each.total_ns, "ratio": _numbers(each.ratio)}
            for each in advice.standings
        ],
        "layers": [_row(part) for part in advice.parts],
        "refused": dict(advice.refused),
        "unmeasured": [
            {"layer": use.layer, "label": use.case.label(), "calls": use.calls}
            for use in advice.unmeasured
        ],
    }


def _row(part: Part) -> dict[str, Any]:
    use = part.use
    return {
        "layer": use.layer,
        "label": use.case.label(),
        "calls": use.calls,
        **use.case.to_dict(),
        "own": part.own,
        "own_ns": part.own_ns,
        "share": part.share,
        "advised_ns": part.advised_ns,
        "ratio": _numbers(part.ratio),
        "alone": part.alone,
        "alone_ratio": _numbers(part.alone_ratio),
    }


def _numbers(ratio: Ratio | None) -> Mapping[str, Any] | None:
    """A ratio for JSON, which has no NaN."""
    if ratio is None:
        return None
    ends = (None if end != end else end for end in (ratio.low, ratio.high))
    return dict(zip(("value", "low", "high", "tie"), (ratio.value, *ends, ratio.tie), strict=True))


def _cells(part: Part) -> list[str]:
    alone = ""
    if part.alone:
        alone = f"{part.alone}, {_ratio(part.alone_ratio)}"
    return [
        part.use.layer,
        part.use.case.label(),
        f"{part.use.calls:,}",
        "" if part.own_ns is None else output.duration(part.own_ns),
        "" if part.share is None else f"{part.share:.0%}",
        "" if part.advised_ns is None else output.duration(part.advised_ns),
        _ratio(part.ratio),
        alone,
    ]


def _ratio(ratio: Ratio | None) -> str:
    """How many times as long, with the interval, and whether that is a tie."""
    if ratio is None:
        return ""
    if ratio.tie is None:
        return f"{ratio.value:.2f}x, interval unknown"
    shown = f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
    return f"tie, {shown}" if ratio.tie else shown


def _as_long(ratio: Ratio | None) -> str:
    """The same in a sentence."""
    if ratio is None or ratio.tie is None:
        few = "an interval takes 3 blocks"
        return f"{ratio.value:.2f}x as long ({few})" if ratio else f"an unknown time ({few})"
    return f"{ratio.value:.2f}x as long ({ratio.low:.2f} to {ratio.high:.2f})"
