"""What cannot be kept for auto is a warning: the run is whole without."""

from saved_runs import save
from synthetic_runs import blocks

from lstm_harness.console.keeping import keep_for_auto
from lstm_harness.model.errors import MeasuringFailed
from lstm_harness.store import kept_for_auto, run_folder


def test_it_is_the_file_or_a_warning(tmp_path, monkeypatch, capsys):
    run = run_folder.load(save(tmp_path / "run", blocks("aten", [100] * 3)))
    monkeypatch.setattr(kept_for_auto, "keep_for_auto", lambda finished: tmp_path / "kept")
    assert keep_for_auto(run) == tmp_path / "kept"

    def fail(finished):
        raise MeasuringFailed("cannot keep it")

    monkeypatch.setattr(kept_for_auto, "keep_for_auto", fail)
    assert keep_for_auto(run) is None
    assert "cannot keep it" in capsys.readouterr().err
