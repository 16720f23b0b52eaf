"""The arguments of a call as a spec, and as the command line that asks for the same."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from lstm_harness.model.errors import UserError
from lstm_harness.model.spec import Spec, asked, names_in
from lstm_harness.model.typed import Unfit, known

# One value or several; a text may be a list or a range as on the command line: "16:64:x2".
Sizes: TypeAlias = int | str | Sequence[int | str]
Shares: TypeAlias = float | str | Sequence[float | str]
Names: TypeAlias = str | Sequence[str]
Flags: TypeAlias = bool | str | Sequence[bool | str]
Files: TypeAlias = str | Path | Sequence[str | Path]

# The settings whose field of `Spec` has the unit in its name.
_IN_SECONDS = {"cell_timeout": "cell_timeout_s", "time_budget": "time_budget_s"}


def spec_of(
    suite: str | None,
    spec: str | Path | None,
    backend: Names | None,
    plugin: Files | None,
    axes: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Spec:
    """The spec of these arguments; None means not given.

    Args:
        axes: by the axis's name, as `model.axes.AXES` has it.
        settings: by the argument's name.
    Raises:
        UserError: an impossible value, or one of another type.
    """
    fields = {_IN_SECONDS.get(name, name): value for name, value in _given(settings).items()}
    try:
        known(fields, Spec, "arguments")
    except Unfit as error:
        raise UserError(str(error)) from None
    if backend is not None:
        fields["backends"] = names_in(_text(backend))
    return asked(
        suite,
        None if spec is None else Path(spec),
        _several(plugin),
        {name: _several(value) for name, value in _given(axes).items()},
        fields,
    )


def command_of(
    suite: str | None,
    spec: str | Path | None,
    backend: Names | None,
    plugin: Files | None,
    options: Mapping[str, Any],
) -> list[str]:
    """The command line that asks for the same as `spec_of`; a run's manifest stores it.

    Args:
        options: axes and settings, and where the run goes, by the flag's name without its dashes.
    """
    words = ["lstm-bench", "run", *([suite] if suite else [])]
    named = {"spec": spec, "backend": backend} | dict(options)
    for name, value in _given(named).items():
        words += [f"--{name.replace('_', '-')}", _text(value)]
    for file in _several(plugin):
        words += ["--plugin", str(file)]
    return words


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _several(value: Any) -> list[Any]:
    """The values of an argument that may be one or several, or None."""
    if value is None:
        return []
    alone = isinstance(value, str | Path) or not isinstance(value, Iterable)
    return [value] if alone else list(value)


def _text(value: Any) -> str:
    """An argument in the form of the command line."""
    texts = map(str, _several(value))
    return ",".join(text.lower() if text in ("True", "False") else text for text in texts)
