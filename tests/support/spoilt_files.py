"""Every kind of file that a command reads, spoilt, and what then must hold of who reads it.

No traceback, no hang, an exit code that the command is documented to have, one line that says what
is wrong where it is 2, and no control character on the terminal.
"""

import io
import json
import random
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import made_up_training
import mutations
import synthetic_store
from known_limits import cpu_limits
from saved_runs import save
from synthetic_runs import blocks, case, grid, record

from lstm_harness.__main__ import run
from lstm_harness.history import index
from lstm_harness.interop import benchmark_json, store_parquet
from lstm_harness.judge import noise
from lstm_harness.model.errors import Exit, UserError
from lstm_harness.model.record import Record
from lstm_harness.model.spec import build, suite_from_file, suite_names
from lstm_harness.model.training import Line, TrainingManifest, TrainingSpec
from lstm_harness.store import cache_folder, kept_limits, run_folder
from lstm_harness.store.kept_for_auto import keep_for_auto
from lstm_harness.store.training_folder import TRAINING
from lstm_kernels import measured, preference, registry, tuning

# No reader may compute longer over a small file: some tenths of a second are usual.
LONGEST_S = 300.0
ENDS_WELL = (Exit.DONE, Exit.USAGE)
ADVISES = (*ENDS_WELL, Exit.INCORRECT, Exit.MEASURING_FAILED)

Spoil = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of file: where a sound one is made, how it is spoilt, and who reads it then."""

    make: Callable[[Path], Path]
    spoil: Spoil
    read: Callable[[Path, random.Random], None]
    seconds: bool = False  # that a reading takes, as it makes pages


def command(*words: str | Path, ends: tuple[int, ...] = ENDS_WELL) -> None:
    """Run a command line in this process, and hold it to what every one promises."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([str(word) for word in words])
    said = out.getvalue(), err.getvalue()
    assert code in ends, (words, code, *said)
    for text in said:
        assert not [c for c in text if unicodedata.category(c) == "Cc" and c != "\n"], (words, text)
    if code == Exit.USAGE:
        assert said[0] == "", said
        last = said[1].splitlines()[-1]
        assert last.startswith("lstm-bench: "), said


def _small_grid() -> Iterator[Record]:
    yield from grid(("naive", "aten"), seq_len=(32,), batch=(4,), hidden_size=(128,), block_count=5)
    yield record("compiled", of=case("forward", seq_len=32, hidden_size=128), status="crashed")


def _run(folder: Path) -> Path:
    limits = {"limits": cpu_limits().to_dict()}
    sizes = {"seq-len": "32", "batch": "4", "hidden": "128"}
    spec = {"spec": build(None, sizes, {}).to_dict()}
    environment = {"environment": synthetic_store.environment(), **spec}
    save(folder / "sound", _small_grid(), **limits, **environment)
    return save(folder / "run", _small_grid(), **limits, **environment)


def _read_run(folder: Path, chance: random.Random) -> None:
    spoilt, sound = folder / "run", folder / "sound"
    ways: list[Callable[[], None]] = [
        lambda: command("compare", sound, spoilt),
        lambda: command("compare", spoilt, sound, "--json", "--markdown", folder / "v.md"),
        lambda: command("export", spoilt, "--format", "csv", "-o", folder / "run.csv"),
        lambda: command(
            "export", spoilt, "--format", "pytest-benchmark", "-o", folder / "run.json"
        ),
        lambda: command("history", folder, "--quiet"),
        lambda: command("recommend", "--run", spoilt, ends=ADVISES),
        lambda: command(
            *("check", spoilt, "--baseline", sound, "--junit", folder / "v.xml"), ends=tuple(Exit)
        ),
        lambda: command(
            *("baseline", "save", spoilt, "kept", "--into", folder / "kept", "--force")
        ),
    ]
    if chance.random() < 0.1:
        command("report", spoilt, "-o", folder / "page.html")
    else:
        chance.choice(ways)()
    for name in ("v.md", "run.csv"):
        if (folder / name).exists():
            text = (folder / name).read_text()
            assert not [c for c in text if unicodedata.category(c) == "Cc" and c not in "\n\r"]
            (folder / name).unlink()


def _baseline(folder: Path) -> Path:
    _run(folder)
    command("baseline", "save", folder / "sound", "kept", "--into", folder / "kept")
    return folder / "kept" / "kept.jsonl"


def _read_baseline(folder: Path, chance: random.Random) -> None:
    kept = folder / "kept" / "kept.jsonl"
    if chance.random() < 0.3:
        command("baseline", "list", "--into", folder / "kept")
    else:
        command("check", folder / "sound", "--baseline", kept, ends=tuple(Exit))


def _suite(folder: Path) -> Path:
    shipped = Path(suite_from_file.__code__.co_filename).parent / "suites"
    path = folder / "suite.toml"
    names = sorted(suite_names())
    path.write_bytes(b"\n".join((shipped / f"{name}.toml").read_bytes() for name in names[-1:]))
    return path


def _read_suite(folder: Path, _: random.Random) -> None:
    with suppress(UserError):
        build(suite_from_file(folder / "suite.toml"), {}, {}).uses("cpu")


def _limits(folder: Path) -> Path:
    found = cpu_limits()
    path = kept_limits.path_of(found.device, found.identity, found.conditions)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found.to_dict()))
    return path


def _read_limits(_: Path, __: random.Random) -> None:
    found = cpu_limits()
    ceilings, reason = kept_limits.kept(found.device, found.identity, found.conditions)
    assert (ceilings is None) == bool(reason)
    if ceilings:
        for each in ceilings.ceilings:
            assert each.shown(each.value), each.interval()


def _noise(_: Path) -> Path:
    path = noise.file_of(synthetic_store.environment())
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"cell": ["naive", *one.to_dict()["problem"].values()], "differences": [0.01, 0.02]}
        for one in {each.case for each in _small_grid()}
    ]
    path.write_text("\n".join(map(json.dumps, [{"schema": noise.SCHEMA}, *lines])) + "\n")
    return path


def _read_noise(_: Path, __: random.Random) -> None:
    with suppress(UserError):
        margins = noise.kept(synthetic_store.environment()).margins
        assert all(margin >= 0 for margin in margins.values())


def _tuned(folder: Path) -> Path:
    head = tuning.header(registry.get("triton"), "cpu")
    entry = {"choice": {"rows": 16}, "own_ns": 100.0, "kept_ns": 90.0}
    rest = {"date": "2026-01-01", "tuning_s": 1.0, "compile_s": 0.5, "entries": {"forward": entry}}
    path = folder / "tuned.json"
    tuning.write(path, {**head, **rest})
    return path


def _read_tuned(folder: Path, _: random.Random) -> None:
    with suppress(tuning.Refused, OSError):
        tuned = tuning.read(folder / "tuned.json", tuning.header(registry.get("triton"), "cpu"))
        assert all(isinstance(entry["choice"], dict | None) for entry in tuned.entries.values())


def _measured(folder: Path) -> Path:
    told = synthetic_store.environment()
    told |= {"cpu": told["cpu"] | {"capability": "AVX2"}}
    digest = measured.kernels_digest()
    run = save(folder / "fast", _small_grid(), environment=told, kernels_digest=digest)
    kept = keep_for_auto(run_folder.load(run))
    assert kept is not None
    return kept


def _read_measured(folder: Path, _: random.Random) -> None:
    (path,) = (folder / "cache" / "lstm-bench" / "measured").iterdir()
    with suppress(OSError, ValueError):
        found = measured.read(path)
        for row in found.rows:
            near = preference.nearest(row.problem, row.use, found.rows)
            assert near is not None
            assert near[1] == 0
            told = preference.Preference(row.order, row.problem.label(), row)
            assert told.why(row.order[0], {})
        assert measured.parsed(measured.text_of(found).encode()) == found
    keep_for_auto(run_folder.load(folder / "fast"))
    assert measured.read(path).rows


def _store(folder: Path) -> Path:
    synthetic_store.series(folder / "store", [100_000, 200_000, 200_000])
    command("history", folder / "store", "--quiet")
    return folder / "store" / index.INDEX


def _read_store(folder: Path, _: random.Random) -> None:
    command("history", folder / "store", "--quiet")


def _tables(folder: Path) -> Path:
    synthetic_store.series(folder / "store", [100_000, 200_000, 200_000])
    _read_tables(folder, random.Random())
    return cache_folder.of_store(folder / "store", "query") / store_parquet.INDEX


def _part(folder: Path) -> Path:
    index = _tables(folder)
    names = {index.name, store_parquet.LOCK}
    return max((p for p in index.parent.iterdir() if p.name not in names), key=lambda p: p.name)


def _read_tables(folder: Path, _: random.Random) -> None:
    store, asked = folder / "store", "select count(*), sum(median_ns)::bigint from records"
    out = io.StringIO()
    with redirect_stdout(out):
        code = run(["query", asked, "--store", str(store), "--csv", "--quiet"])
    assert (code, out.getvalue().splitlines()[1:]) == (Exit.DONE, ["9,1500000"])


def _cards(folder: Path) -> Path:
    from lstm_harness.site import cards

    synthetic_store.series(folder / "store", [100_000, 200_000, 200_000])
    cards.read(folder / "store")
    return cards.cache_file(folder / "store", "cards")


def _read_cards(folder: Path, _: random.Random) -> None:
    command("report", "--site", folder / "site", folder / "store", "--quiet")


def _benchmarks(folder: Path) -> Path:
    who = [
        (name, benchmark_json.extra_info(name, one.case))
        for name in ("naive", "aten")
        for one in blocks(name, [1000])
    ]
    facts = benchmark_json.machine_facts(synthetic_store.environment(), "0123")
    document = {
        "machine_info": {"node": "a-host", "lstm_bench": facts},
        "commit_info": {"id": "c" * 40, "dirty": False},
        "benchmarks": [
            {"fullname": name, "extra_info": info, "stats": {"data": [1e-3], "iterations": 1}}
            for name, info in who
        ],
        "datetime": "2026-02-01T10:00:00+00:00",
        "version": "5.3.1",
    }
    path = folder / "benchmarks.json"
    path.write_text(json.dumps(document))
    return path


def _read_benchmarks(folder: Path, chance: random.Random) -> None:
    out = folder / f"imported-{chance.getrandbits(64)}"
    command("import", folder / "benchmarks.json", "-o", out)
    if out.exists():
        run_folder.load(out)


def _training(folder: Path) -> Path:
    place = folder / "training"
    backends = ("naive", "aten")
    spec = TrainingSpec("adding", backends, ("lstm",), (0, 1), 60.0, plugins=("mine.py",))
    manifest = TrainingManifest(
        **{
            "schema": 1,
            "id": "training",
            "lstm_bench": "0.1.0",
            "command": ("lstm-bench", "train"),
        },
        **{"spec": spec, "device": "cpu", "environment": synthetic_store.environment()},
        **{"kernels_digest": "0123", "start": "2026-02-01T10:00:00+00:00"},
    )
    run_folder.create(place, TRAINING)
    run_folder.write_manifest(place, asdict(manifest), TRAINING)
    with run_folder.appender(place, TRAINING) as file:
        for one in made_up_training.race(dict.fromkeys(backends, 1.0), seeds=(0, 1)):
            for point in one.points:
                file.append(Line(one.curve, point))
            file.append(Line(one.curve, end=one.end))
    return place


def _read_training(folder: Path, _: random.Random) -> None:
    command("report", folder / "training", "-o", folder / "page.html")


KINDS = {
    "curves": Kind(
        lambda f: _training(f) / TRAINING.lines, mutations.json_lines, _read_training, seconds=True
    ),
    "training": Kind(
        lambda f: _training(f) / TRAINING.manifest,
        mutations.json_document,
        _read_training,
        seconds=True,
    ),
    "records": Kind(lambda f: _run(f) / run_folder.RECORDS, mutations.json_lines, _read_run),
    "manifest": Kind(lambda f: _run(f) / run_folder.MANIFEST, mutations.json_document, _read_run),
    "baseline": Kind(_baseline, mutations.json_lines, _read_baseline),
    "suite": Kind(_suite, mutations.toml, _read_suite),
    "limits": Kind(_limits, mutations.json_document, _read_limits),
    "noise": Kind(_noise, mutations.json_lines, _read_noise),
    "tuned": Kind(_tuned, mutations.json_document, _read_tuned),
    "measured": Kind(_measured, mutations.json_document, _read_measured),
    "history index": Kind(_store, mutations.under_a_digest, _read_store),
    "query index": Kind(_tables, mutations.under_a_digest, _read_tables),
    "query part": Kind(_part, mutations.raw, _read_tables),
    "cards": Kind(_cards, mutations.under_a_digest, _read_cards, seconds=True),
    "benchmarks": Kind(_benchmarks, mutations.json_document, _read_benchmarks),
}


@dataclass
class Spoiling:
    """A sound file of one kind, and its reading after each spoiling of it."""

    kind: Kind
    folder: Path

    def __post_init__(self) -> None:
        self.path = self.kind.make(self.folder)
        self.sound = self.path.read_bytes()

    def once(self, chance: random.Random) -> None:
        """Spoil the sound file, and have it read."""
        self.path.write_bytes(self.kind.spoil(self.sound, chance))
        started = time.process_time()
        self.kind.read(self.folder, chance)
        assert time.process_time() - started < LONGEST_S
