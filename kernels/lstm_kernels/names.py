"""One way to refuse an unknown name: say what was found, what is known, and a suggestion."""

import difflib
from collections.abc import Iterable


def check_name(what: str, name: object, known: Iterable[str]) -> str:
    """Return `name` if it is one of `known`.

    Raises:
        ValueError: `unknown backend 'trtion'; did you mean 'triton'? known: aten, naive, triton`.
    """
    names = list(known)
    if isinstance(name, str) and name in names:
        return name
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown {what} {name!r}; {hint}known: {', '.join(sorted(names))}")
