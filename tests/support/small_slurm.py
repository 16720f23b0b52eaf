"""A Slurm of a few simulated hosts on this machine, configured in a folder."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simulated_hosts import Host
from waiting import until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
FIRST_PORT = 17800
# A node that is gone is noticed after so many seconds.
NOTICED_S = 10


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if not _program(name)]


@contextmanager
def slurm(folder: Path, names: Sequence[str]) -> Iterator[tuple[dict[str, str], dict[str, Host]]]:
    """Run one; gives the variables that its programs need, and its hosts by name."""
    desk = Host("desk")
    settings = _configured(folder, names)
    variables = {"SLURM_CONF": str(settings)}
    environment = os.environ | variables
    _key(folder)
    hosts, daemons = {}, []
    try:
        socket_ = folder / "munge.socket"
        options = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        munged = [
            *(_program("munged"), "--foreground", "--force", f"--socket={socket_}"),
            *(f"--key-file={folder / 'munge.key'}", f"--log-file={folder / 'munge.log'}"),
            *(f"--pid-file={folder / 'munge.pid'}", f"--seed-file={folder / 'munge.seed'}"),
        ]
        daemons.append(desk.start(munged, **options))
        until(socket_.exists)
        daemons.append(desk.start([_program("slurmctld"), "-D"], **options))
        for name in names:
            hosts[name] = Host(name)
            daemons.append(hosts[name].start([_program("slurmd"), "-D"], **options))
        Host("desk")
        asked = ["sinfo", "--noheader", "--format=%T %D"]

        def all_are_idle() -> bool:
            answer = subprocess.run(asked, env=environment, capture_output=True, text=True)
            return answer.stdout.split() == ["idle", str(len(names))]

        until(all_are_idle)
        yield variables, hosts
    finally:
        for host in hosts.values():
            host.cut()
        for daemon in daemons:
            daemon.kill()
            daemon.wait()


def _configured(folder: Path, names: Sequence[str]) -> Path:
    """Write slurm.conf."""
    for each in ("state", *names):
        (folder / each).mkdir(parents=True)
    nodes = [
        f"NodeName={name} NodeAddr=127.0.0.1 Port={FIRST_PORT + 1 + place} CPUs=1 RealMemory=500"
        for place, name in enumerate(names)
    ]
    lines = [
        "ClusterName=small",
        f"SlurmctldHost={socket.gethostname()}(127.0.0.1)",
        f"SlurmctldPort={FIRST_PORT}",
        "SlurmUser=root",
        "SlurmdUser=root",
        # The credential of a job's first try must expire before a second one begins.
        f"AuthInfo=socket={folder / 'munge.socket'},cred_expire=10",
        f"StateSaveLocation={folder / 'state'}",
        f"SlurmdSpoolDir={folder}/%n",
        f"SlurmctldPidFile={folder / 'slurmctld.pid'}",
        f"SlurmdPidFile={folder}/%n.pid",
        f"SlurmctldLogFile={folder / 'slurmctld.log'}",
        f"SlurmdLogFile={folder}/%n.log",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "SelectType=select/linear",
        f"SlurmdTimeout={NOTICED_S}",
        "KillWait=5",
        "MinJobAge=10",
        "ReturnToService=2",
        "SlurmdParameters=config_overrides",
        *nodes,
        f"PartitionName=all Nodes={','.join(names)} Default=YES MaxTime=INFINITE State=UP",
    ]
    path = folder / "slurm.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


def _key(folder: Path) -> None:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or ""
