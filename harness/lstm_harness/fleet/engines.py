"""The engines by name."""

from pathlib import Path

from lstm_harness.fleet.ledger import JOBS, TASKS, Settings
from lstm_harness.fleet.local import LocalEngine
from lstm_harness.fleet.on_ray import RayEngine
from lstm_harness.fleet.on_slurm import SlurmEngine
from lstm_harness.fleet.task import Engine


def made(settings: Settings, folder: Path) -> Engine:
    """The engine that settings name.

    Args:
        folder: of the run.
    Raises:
        UserError: a package is missing. `MeasuringFailed`: it cannot be reached.
    """
    if settings.engine == "ray":
        return RayEngine(settings.address, settings.accelerator_type)
    if settings.engine == "slurm":
        whole = folder.resolve()
        return SlurmEngine(whole / TASKS, whole / JOBS, settings.sbatch)
    return LocalEngine(settings.gpus)
