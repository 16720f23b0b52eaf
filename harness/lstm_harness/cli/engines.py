"""The options of what is measured on many devices: an engine, and each engine's own.

Imports stay light, as in `app`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_harness.model.errors import UserError

if TYPE_CHECKING:
    from lstm_harness.fleet.ledger import Settings


def of_engine(flag: str, text: str, metavar: str) -> Any:
    """An option among those of engines."""
    return typer.Option(flag, help=text, metavar=metavar, rich_help_panel="Engine")


Gpus = Annotated[
    str | None,
    of_engine("--gpus", "local: as CUDA_VISIBLE_DEVICES names them; default: all", "LIST"),
]
Address = Annotated[
    str | None,
    of_engine("--address", "ray: of the cluster; default: RAY_ADDRESS, or this host", "HOST"),
]
AcceleratorType = Annotated[
    str | None,
    of_engine("--accelerator-type", "ray: the kind of GPU, as Ray names it: H100", "NAME"),
]
Sbatch = Annotated[
    list[str] | None,
    of_engine("--sbatch", "slurm: an option of sbatch: partition=gpu; repeatable", "OPTION"),
]
CasesPerTask = Annotated[
    int | None,
    of_engine("--cases-per-task", "default: as many as take about a minute", "COUNT"),
]


def settings_of(
    engine: str | None,
    gpus: str | None,
    address: str | None,
    accelerator_type: str | None,
    sbatch: Sequence[str] | None,
    cases_per_task: int | None,
) -> "Settings | None":
    """The engine and its own options; None where no engine is asked for.

    Raises:
        UserError: there is no such engine, or an option is another engine's, or of none.
    """
    from lstm_harness.fleet.ledger import Settings

    of_engines: dict[str, dict[str, Any]] = {
        "local": {"gpus": tuple(gpus.split(",")) if gpus else None},
        "ray": {"address": address, "accelerator_type": accelerator_type},
        "slurm": {"sbatch": tuple(sbatch) if sbatch else None},
    }
    known = ", ".join(of_engines)
    if engine is not None and engine not in of_engines:
        raise UserError(f"unknown --engine {engine}; expected one of {known}")
    for name, options in of_engines.items():
        given = [option for option, value in options.items() if value is not None]
        if given and name != engine:
            flag = given[0].replace("_", "-")
            raise UserError(f"--{flag} is of engine {name}; type --engine {name}, or leave it out")
    if cases_per_task is not None and cases_per_task < 1:
        raise UserError(f"--cases-per-task {cases_per_task}; expected 1 or more")
    if engine is None:
        if cases_per_task is not None:
            raise UserError(f"--cases-per-task needs --engine: {known}; or leave it out")
        return None
    own = {option: value for option, value in of_engines[engine].items() if value is not None}
    return Settings(engine, **own)
