"""Whether what was measured stays within its limits."""

from collections.abc import Iterable


def kept(subject: str, limits: Iterable[tuple[str, float, float, str]]) -> bool:
    """Print a line for each limit; whether all of them are kept.

    Args:
        limits: what was measured, the figure, what it must stay below, the unit of both.
    """
    judged = [(what, found, most, unit, found < most) for what, found, most, unit in limits]
    for what, found, most, unit, passes in judged:
        verdict = "pass" if passes else "FAIL"
        print(f"{subject}: {what} {found:.2f} {unit} (limit {most:g}): {verdict}")
    return all(passes for *_, passes in judged)
