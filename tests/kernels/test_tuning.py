"""Files of tuned parameters: keys, what is refused and why, what a backend is told."""

import json
import warnings

import pytest

from lstm_kernels import Backend, Problem, registry, tuning

SOURCE = "BACKENDS = []\n"
KEY = "forward lstm float16 H512 D1 B16"
CHOICE = {"regime": "held", "tile": 16}
ENTRIES = {KEY: {"choice": CHOICE, "own_us": [2.0, 1.9, 2.1]}, "other": {"choice": None}}


def problem(**fields):
    return Problem(**({"cell": "lstm", "seq_len": 8, "batch": 16, "input_size": 4} | fields))


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A registered backend of one file, its cache folder its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_of_one_file.py").write_text(SOURCE)
    mine = Backend("mine", "mine_of_one_file", "a backend", requires=("pytest",))
    monkeypatch.setattr(registry, "_plugins", {"mine": mine})
    tuning.forget()
    yield mine
    tuning.forget()


def make(record, folder=None, **changes):
    """A file that holds here, but for what is changed."""
    document = tuning.header(record, "cpu") | {"date": "2026-11-23", "tuning_s": 1.5}
    document |= {"compile_s": 0.5, "entries": ENTRIES} | changes
    path = (folder or tuning.user_folder()) / tuning.file_name("mine", tuning.device_facts("cpu"))
    tuning.write(path, document)
    return path


def refusal(record):
    """The one line that tells why the file is not used; it is a warning, once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        looked_up = [tuning.active("mine", "cpu") for _ in range(3)]
    assert looked_up[0].tuned is None
    assert tuning.chosen("mine", KEY, "cpu") is None
    (reason,) = looked_up[0].refused
    assert [str(each.message) for each in caught] == [f"tuned parameters: {reason}"]
    assert "\n" not in reason
    return reason


@pytest.mark.parametrize(
    ("fields", "pass_name", "key"),
    [
        ({"dtype": "float16"}, "forward", KEY),
        ({"dtype": "float16", "seq_len": 999, "batch": 3, "input_size": 7}, "inference", KEY),
        ({"dtype": "float16", "num_layers": 3, "bias": False}, "train", KEY),
        ({"batch": 17}, "backward", "backward lstm float32 H512 D1 B32"),
        ({"batch": 65, "precision": "tf32"}, "backward", "backward lstm tf32 H512 D1 B128"),
        ({"cell": "gru", "bidirectional": True}, "forward", "forward gru float32 H512 D2 B16"),
    ],
)
def test_a_key_is_what_changes_code_and_load(fields, pass_name, key):
    assert tuning.key_of(problem(hidden_size=512, **fields), pass_name) == key


@pytest.mark.parametrize(
    ("batch", "least", "top"), [(1, 16, 16), (16, 16, 16), (33, 16, 64), (1, 1, 1), (3, 1, 4)]
)
def test_batches_share_a_key_up_to_a_power_of_two(batch, least, top):
    assert tuning.top_of_bucket(batch, least) == top


def test_what_is_written_is_read_again_an_entry_a_line(record):
    path = make(record)
    tuned = tuning.read(path, tuning.header(record, "cpu"))
    assert tuned.entries == ENTRIES
    lines = path.read_text().splitlines()
    assert sum(KEY in line for line in lines) == 1
    assert json.loads("{" + next(line for line in lines if KEY in line).rstrip(",") + "}")
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_backend_is_told_the_files_choice_where_another_than_its_own_was_kept(record):
    make(record)
    assert tuning.chosen("mine", KEY, "cpu") == CHOICE
    assert tuning.chosen("mine", "other", "cpu") is None
    assert tuning.chosen("mine", "unknown", "cpu") is None
    assert tuning.chosen("somebody", KEY, "cpu") is None
    facts = tuning.active("mine", "cpu").facts()
    assert facts["refused"] == []
    assert facts["used"]["date"] == "2026-11-23"


def test_a_choice_on_trial_goes_before_the_files_and_leaves_no_trace(record):
    make(record)
    with tuning.trial("mine", KEY, {"tile": 1}), tuning.trial("mine", "unknown", {"tile": 2}):
        assert tuning.chosen("mine", KEY, "cpu") == {"tile": 1}
        assert tuning.chosen("mine", "unknown", "cpu") == {"tile": 2}
        with tuning.trial("mine", KEY, {"tile": 3}):
            assert tuning.chosen("mine", KEY, "cpu") == {"tile": 3}
        assert tuning.chosen("mine", KEY, "cpu") == {"tile": 1}
    assert tuning.chosen("mine", KEY, "cpu") == CHOICE
    assert tuning.on_trial("mine", "unknown") is None


def test_without_a_file_nothing_is_said(record):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tuning.active("mine", "cpu").facts() == {"used": None, "refused": []}


def test_a_file_that_comes_with_the_package_gives_way_to_the_users(record, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "SHIPPED", tmp_path / "tuned")
    make(record, tmp_path / "tuned", entries={KEY: {"choice": {"tile": 7}}})
    assert tuning.chosen("mine", KEY, "cpu") == {"tile": 7}
    path = make(record)
    tuning.forget()
    assert tuning.chosen("mine", KEY, "cpu") == CHOICE
    path.write_text("{")
    tuning.forget()
    with pytest.warns(UserWarning, match="is broken"):
        assert tuning.chosen("mine", KEY, "cpu") == {"tile": 7}
    assert len(tuning.active("mine", "cpu").refused) == 1


OTHER_DEVICE = {"name": "Some GPU", "capability": "9.0", "sm_count": 132}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 2}, "has schema 2; this version reads 1"),
        ({"schema": "x"}, "is not a file of tuned parameters"),
        ({"backend": "yours"}, "was tuned for backend 'yours', not 'mine'"),
        ({"device": OTHER_DEVICE}, "was tuned on Some GPU (9.0, 132 SMs); this is"),
        ({"versions": {}}, "was tuned with torch None; this is torch"),
        ({"sources": "0" * 64}, "was tuned for other sources of mine"),
        ({"date": None}, "is broken: its 'date' is None"),
        ({"entries": []}, "is broken: its 'entries' is []"),
        ({"entries": {KEY: {}}}, f"is broken: the entry {KEY!r} has no choice"),
    ],
)
def test_what_does_not_hold_here_is_refused_with_a_reason(record, changes, says):
    entries = changes.get("entries")
    path = make(record, **({} if isinstance(entries, list) else changes))
    if isinstance(entries, list):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert says in refusal(record)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"schema": 1}'])
def test_what_is_torn_or_something_else_is_refused(record, content):
    make(record).write_bytes(content)
    refusal(record)


def test_a_torn_file_of_every_length_is_refused_or_whole(record):
    path = make(record)
    whole, here = path.read_bytes(), tuning.header(record, "cpu")
    for length in range(len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises(tuning.Refused):
            tuning.read(path, here)


def test_other_sources_of_the_backend_make_it_stale(record, tmp_path):
    make(record)
    (tmp_path / "mine_of_one_file.py").write_text(SOURCE + "# changed\n")
    reason = refusal(record)
    assert "other sources of mine" in reason
    assert reason.endswith("make it again: lstm-bench tune mine")


def test_other_versions_of_what_a_backend_needs_make_it_stale(record):
    versions = tuning.header(record, "cpu")["versions"]
    assert versions.keys() == {"torch", "pytest"}
    make(record, versions=versions | {"pytest": "0.1"})
    assert "was tuned with pytest 0.1; this is pytest" in refusal(record)


def test_the_sources_of_a_backend_that_is_a_folder_are_all_its_files(monkeypatch):
    read = []
    path_type = type(tuning.SHIPPED)
    real = path_type.read_bytes
    monkeypatch.setattr(path_type, "read_bytes", lambda self: read.append(self.name) or real(self))
    tuning.sources_digest(registry.get("triton"))
    assert {"parameters.py", "device_code.py", "__init__.py", "tuning.py"} <= set(read)
