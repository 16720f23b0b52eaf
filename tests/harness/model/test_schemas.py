import json
from importlib.resources import files

import jsonschema
import pytest
from synthetic_runs import case, grid, manifest, record

from lstm_harness.model.case import CALL_FIELDS
from lstm_harness.model.record import STATUSES
from lstm_kernels import CELLS, PASSES
from lstm_kernels.cells import to_data

EXAMPLE = """
{"schema": 1, "block": 0, "order": 17, "backend": "naive", "device": "cpu",
 "problem": {"cell": "lstm", "seq_len": 64, "batch": 16, "input_size": 256,
             "hidden_size": 256, "num_layers": 1, "bidirectional": false, "bias": true,
             "proj_size": 0, "dtype": "float32", "precision": "ieee", "lengths": "full"},
 "pass": "forward", "launch": "eager", "cache": "warm",
 "status": "ok", "reason": "",
 "samples_ns": [412345, 410222], "inner_repeats": 1,
 "errors": {"y": 1.1e-07, "h_n": 1.0e-07, "d_w_hh": 3.2e-07}, "tolerance": 1e-05,
 "setup_ms": 1.2, "compile_ms": 0.0, "peak_bytes": 1048576, "saved_bytes": 524288,
 "energy_mj": null, "sm_clock_mhz": null, "kernels": [], "warnings": []}
"""


def validator(name):
    text = (files("lstm_harness.model") / "schemas" / f"{name}.schema.json").read_text()
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


CALL = {"batch_first": True, "autocast": "bfloat16", "dropout": 0.25}
CALLED = case(num_layers=2, **CALL)
RECORD = validator("record")
RUN = validator("run")


def stored(one):
    """A record as it stands in records.jsonl."""
    return json.loads(json.dumps(one.to_dict()))


def test_the_example_of_the_design_is_a_record():
    RECORD.validate(json.loads(EXAMPLE))


@pytest.mark.parametrize("status", STATUSES)
def test_a_record_of_every_status_is_valid(status):
    RECORD.validate(stored(record(status=status)))


@pytest.mark.parametrize("pass_name", PASSES)
def test_a_record_of_every_pass_and_device_is_valid(pass_name):
    for device in ("cpu", "cuda"):
        RECORD.validate(stored(record(of=case(pass_name, device=device))))


def test_heads_are_described_and_may_be_left_out():
    RECORD.validate(stored(record(of=case(heads=4))))
    assert stored(record(of=case(heads=4)))["problem"]["heads"] == 4
    for heads in (0, "4"):
        one = stored(record())
        one["problem"]["heads"] = heads
        assert not RECORD.is_valid(one)


def test_a_call_is_described_and_a_plain_one_is_left_out():
    for of, told in ((case(), {}), (CALLED, CALL)):
        one = stored(record(of=of))
        RECORD.validate(one)
        RUN.validate(manifest([record(of=of)]))
        assert {name: one[name] for name in one.keys() & set(CALL_FIELDS)} == told
    for wrong in ({"batch_first": 1}, {"autocast": "float64"}, {"dropout": 1}):
        assert not RECORD.is_valid(stored(record()) | wrong)


def test_every_field_of_a_record_is_described():
    described = set(RECORD.schema["properties"])
    assert set(stored(record(of=CALLED))) == described


def test_every_field_of_the_example_is_required():
    assert set(RECORD.schema["required"]) == set(json.loads(EXAMPLE))


def test_errors_that_are_not_finite_are_null():
    RECORD.validate(stored(record(errors={"y": None}, status="incorrect")))


def test_unknown_fields_are_allowed():
    RECORD.validate(json.loads(EXAMPLE) | {"of_a_later_version": [1]})


@pytest.mark.parametrize(
    "change",
    [
        {"samples_ns": []},
        {"samples_ns": [0]},
        {"samples_ns": [-5]},
        {"samples_ns": [1.5]},
        {"reason": "but it worked"},
        {"status": "crashed", "reason": "gone"},
        {"status": "crashed", "reason": "", "samples_ns": []},
        {"status": "fine"},
        {"device": "cuda:0"},
        {"device": "tpu"},
        {"pass": "sideways"},
        {"block": -1},
        {"schema": 2},
        {"errors": {"y": "small"}},
    ],
    ids=json.dumps,
)
def test_what_is_no_record_is_refused(change):
    assert not RECORD.is_valid(json.loads(EXAMPLE) | change)


@pytest.mark.parametrize("name", list(json.loads(EXAMPLE)))
def test_a_record_without_a_required_field_is_refused(name):
    less = json.loads(EXAMPLE)
    del less[name]
    assert not RECORD.is_valid(less)


def test_a_manifest_is_valid():
    RUN.validate(manifest(list(grid(block_count=1))))


def test_a_run_that_has_not_ended_is_valid():
    RUN.validate(manifest(end=None, suite=None))


@pytest.mark.parametrize("name", ["schema", "plan", "environment", "command", "kernels_digest"])
def test_a_manifest_without_a_required_field_is_refused(name):
    less = manifest()
    del less[name]
    assert not RUN.is_valid(less)


def test_a_skip_needs_a_reason():
    skip = {"backend": "naive", "case": 0, "status": "unsupported", "reason": ""}
    assert not RUN.is_valid(manifest(plan={"skips": [skip]}))


def test_a_manifest_that_defines_a_cell_is_valid_and_a_half_of_one_is_not():
    for name in ("gru", "lstm_batchnorm"):
        RUN.validate(manifest([record()]) | {"definitions": [to_data(CELLS[name])]})
    with pytest.raises(jsonschema.ValidationError):
        RUN.validate(manifest([record()]) | {"definitions": [{"name": "gru"}]})
