"""`ab` in a repository that is not a checkout of lstm-bench: a plugin against itself as it was."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench import manifest_of, records_of
from repositories import commit, git

import lstm_kernels
from lstm_harness.ab.plugins import checked_out, repository, working_tree
from lstm_harness.ab.two_sides import same_on_both
from lstm_harness.model.errors import MeasuringFailed, NotComparable, UserError
from lstm_harness.model.revision import Revision
from lstm_harness.model.sources import plugin_digest
from lstm_harness.model.spec import asked
from lstm_harness.race import pairs

TINY = "--hidden 8 --seq-len 4 --batch 2 --pass inference --threads 1 --quiet"
BLOCKS = 3
# It notes in which folder it was imported, and with which state of the module next to it.
MINE = """
from pathlib import Path

from helper import TIMES
from lstm_kernels import Backend
from lstm_kernels.backends import naive
from lstm_kernels.backends.naive import unsupported

BACKENDS = [Backend("mine", __name__, "mine", ("cpu",))]
with open(IMPORTED, "a") as noted:
    noted.write(f"{Path(__file__).parent.parent.name} {TIMES}\\n")


def layer(x, h0, c0, weights, *, problem, lengths=None):
    for _ in range(TIMES):
        found = naive.layer(x, h0, c0, weights, problem=problem, lengths=lengths)
    return found
"""


@pytest.fixture
def repo(tmp_path):
    """A plugin with a module next to it, which became slow, and then an edit of that."""
    top = tmp_path / "repo"
    folder = top / "kernels of mine"
    folder.mkdir(parents=True)
    git(top, "init", "--quiet")
    (top / "README").write_text("not of the plugin's folder")
    commit(top, "empty")
    (folder / "mine.py").write_text(MINE.replace("IMPORTED", repr(str(tmp_path / "imported"))))
    (folder / "data.txt").write_text("which the plugin may read")
    for times, tag in ((1, "fast"), (20, "slow")):
        (folder / "helper.py").write_text(f"TIMES = {times}\n")
        commit(top, tag)
    (folder / "helper.py").write_text("TIMES = 30\n")
    return top


@pytest.fixture
def plugin(repo):
    return str(repo / "kernels of mine" / "mine.py")


def written(folder):
    return {file.name for file in folder.rglob("*") if file.is_file()}


def spec_of(plugin, **settings):
    axes = {"hidden": "4", "seq-len": "2", "batch": "1", "pass": "inference"}
    return asked(None, None, [plugin], axes, {"device": "cpu", **settings})


def two(plugin, repo, tmp_path, base="fast"):
    sides = tmp_path / "sides"
    return (
        checked_out([plugin], base, repo, sides / "base"),
        working_tree([plugin], repo, sides / "new"),
    )


def planned(spec, revisions, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return pairs.planned(spec, revisions, scratch)


def test_each_side_has_its_plugin_with_the_folder_of_its_revision(repo, plugin, tmp_path):
    (repo / "kernels of mine" / "notes.txt").write_text("git does not know this")
    base, new = two(plugin, repo, tmp_path)
    assert repository([plugin]) == repo
    texts = [Path(each.plugins[0]).with_name("helper.py").read_text() for each in (base, new)]
    assert texts == ["TIMES = 1\n", "TIMES = 30\n"]
    assert [written(tmp_path / "sides" / each) for each in ("base", "new")] == [
        {"mine.py", "helper.py", "data.txt"}
    ] * 2
    fast, slow = (git(repo, "rev-parse", tag) for tag in ("fast", "slow"))
    assert (base.name, base.commit, base.git) == ("fast", fast, {"commit": fast, "dirty": False})
    assert (new.name, new.commit, new.git) == (
        "working tree",
        None,
        {"commit": slow, "dirty": True},
    )
    installed = Path(lstm_kernels.__path__[0]).resolve().parent
    assert base.root == new.root == installed


def test_an_edit_of_the_working_tree_meanwhile_changes_nothing(repo, plugin, tmp_path):
    _, new = two(plugin, repo, tmp_path)
    Path(plugin).write_text("edited meanwhile")
    assert "BACKENDS" in Path(new.plugins[0]).read_text()


def test_a_module_that_git_does_not_know_yet_is_of_the_working_tree(repo, plugin, tmp_path):
    git(repo, "checkout", "--quiet", "--", ".")
    Path(plugin).with_name("fresh.py").write_text("")
    assert two(plugin, repo, tmp_path / "a")[1].git["dirty"] is False
    Path(plugin).with_name("helper.py").write_text("import fresh\nTIMES = 20\n")
    git(repo, "commit", "--quiet", "--all", "-m", "imports it")
    _, new = two(plugin, repo, tmp_path / "b")
    assert Path(new.plugins[0]).with_name("fresh.py").is_file()
    assert new.git["dirty"] is True


def test_a_plugin_at_the_top_of_its_repository(tmp_path):
    git(tmp_path, "init", "--quiet", "[top]")
    top = tmp_path / "[top]"
    (top / "mine.py").write_text("first")
    # Links that lead out of a repository are nobody's business here.
    (top / "elsewhere").symlink_to(tmp_path)
    commit(top, "first")
    (top / "mine.py").write_text("second")
    base, new = two(str(top / "mine.py"), top, tmp_path, "first")
    assert [Path(each.plugins[0]).read_text() for each in (base, new)] == ["first", "second"]


def test_what_is_not_there_is_not_taken_for_deleted(repo, plugin, tmp_path):
    (repo / "kernels of mine" / "data.txt").unlink()
    two(plugin, repo, tmp_path)
    assert written(tmp_path / "sides" / "new") == {"mine.py", "helper.py"}
    Path(plugin).unlink()
    with pytest.raises(UserError, match=r"mine.py: no such file; give the path of a Python file"):
        working_tree([plugin], repo, tmp_path / "x")


def test_both_sides_are_planned_with_their_own(repo, plugin, tmp_path, here, forked):
    Path(plugin).write_text(
        Path(plugin)
        .read_text()
        .replace("BACKENDS = [", 'BACKENDS = [Backend("more", __name__, ""),')
    )
    revisions, spec = two(plugin, repo, tmp_path), spec_of(plugin)
    sides = planned(spec, revisions, tmp_path)
    assert [side.plan.backends for side in sides] == [("mine",), ("mine", "more")]
    manifests = pairs.manifests_of(spec, sides, tmp_path)
    for side, manifest, brought in zip(sides, manifests, (["mine"], ["more", "mine"]), strict=True):
        digest = plugin_digest(Path(side.revision.plugins[0]))
        told = {"file": "mine.py", "sha256": digest, "backends": brought}
        assert manifest["plugins"] == [told]
        assert manifest["spec"]["plugins"] == [plugin]
        assert manifest["environment"]["git"] == side.revision.git
    assert len({manifest["kernels_digest"] for manifest in manifests}) == 2
    assert manifests[0]["revision"] == {"name": "fast", "commit": revisions[0].commit}
    noted = set((tmp_path / "imported").read_text().splitlines())
    assert noted == {"base 1", "new 30"}


def test_backends_that_are_named_run_instead(repo, plugin, tmp_path, here, forked):
    spec = spec_of(plugin, backends=("aten", "mine"))
    sides = planned(spec, two(plugin, repo, tmp_path), tmp_path)
    assert [side.plan.backends for side in sides] == [("aten", "mine")] * 2


def test_a_plugin_that_one_side_cannot_import_is_not_comparable(
    repo, plugin, tmp_path, here, forked
):
    Path(plugin).write_text("no python")
    with pytest.raises(
        NotComparable, match=r"mine.py of working tree cannot be imported: SyntaxError"
    ):
        planned(spec_of(plugin), two(plugin, repo, tmp_path), tmp_path)


def test_a_plugin_without_a_backend_needs_names(repo, plugin, tmp_path, here, forked):
    Path(plugin).write_text("BACKENDS = []")
    git(repo, "commit", "--quiet", "--all", "-m", "none")
    with pytest.raises(UserError, match=r"brings no backend; name those to measure: --backend"):
        planned(spec_of(plugin), two(plugin, repo, tmp_path, "HEAD"), tmp_path)


def test_modules_from_elsewhere_are_never_measured_in_a_revisions_name(tmp_path):
    revision = Revision("fast", None, tmp_path, plugins=(str(tmp_path / "mine.py"),))
    found = SimpleNamespace(kernels=tmp_path.resolve(), elsewhere={"helper": "/other/helper.py"})
    with pytest.raises(MeasuringFailed, match=r"imports helper from /other/helper.py, .* of fast"):
        pairs.survey_of(SimpleNamespace(survey=lambda: found), revision)


def test_only_a_plugin_of_one_digest_is_the_same_on_both_sides():
    def side(kernels, **digests):
        told = [{"file": f"{name}.py", "sha256": each} for name, each in digests.items()]
        return SimpleNamespace(manifest={"kernels_digest": kernels, "plugins": told})

    base, new = side("a", mine="1", other="1"), side("b", mine="2", other="1")
    assert same_on_both(base, new) == ["other.py is the same on both sides"]
    neither = SimpleNamespace(manifest={"kernels_digest": "a"})
    assert same_on_both(neither, neither) == ["the kernels' sources are the same on both sides"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("ab fast", "has no kernels/lstm_kernels/__init__.py; run this inside a checkout of"),
        ("ab fast", "or name a plugin of a repository of your own: --plugin mine.py"),
        ("ab nope --plugin mine.py", "git knows no revision 'nope'; expected a commit"),
        ("ab empty --plugin mine.py", "revision 'empty' has no kernels of mine/mine.py; nothing"),
        ("ab fast --plugin new.py", "has no kernels of mine/new.py; git does not know the file"),
        ("ab fast --plugin mine.py --plugin ../../alone.py", "alone.py: git rev-parse: fatal: not"),
        ("ab fast --plugin mine.py --plugin ../../other/a.py", "expected one git repository"),
        ("ab fast --plugin mine.py --engine local", "--engine compares kernels alone; leave it"),
        ("ab fast --plugin mine.py --blocks 2", "--blocks 2: expected at least 5"),
    ],
)
def test_what_cannot_be_compared_is_one_line(repo, refused, tmp_path, monkeypatch, arguments, says):
    for name in ("repo/kernels of mine/new.py", "alone.py", "other/a.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("BACKENDS = []")
    git(tmp_path / "other", "init", "--quiet")
    monkeypatch.chdir(repo / "kernels of mine")
    assert says in refused(*arguments.split())


def test_where_there_is_no_repository_the_line_says_what_to_name(refused, tmp_path):
    line = refused("ab", "main")
    assert "not a git repository" in line
    assert "or name a plugin of a repository of your own: --plugin mine.py" in line


def test_a_plugin_that_became_slow_is_judged_by_what_it_was(
    repo, plugin, command, tmp_path, monkeypatch
):
    """Started elsewhere: the plugin's repository counts.

    It is twenty times slower: a machine may be too noisy to tell, but none can deny it.
    """
    monkeypatch.setattr("lstm_harness.ab.two_sides.LEAST_BLOCKS", BLOCKS)
    git(repo, "checkout", "--quiet", "--", ".")
    out = tmp_path / "ab"
    how = f"{TINY} --time-budget 3 --min-samples 3 --blocks {BLOCKS} --out {out} --json".split()
    code, said, err = command("ab", "fast", "slow", "--plugin", plugin, *how)
    assert code in (1, 3), err
    told = json.loads(said)
    kinds = {each["kind"] for each in told["verdicts"] if each["measure"] == "time"}
    assert kinds <= {"REGRESSION", "INCONCLUSIVE"}
    assert not any("is the same on both sides" in note for note in told["notes"])
    assert set((tmp_path / "imported").read_text().splitlines()) == {"base 1", "new 20"}
    for side in ("base", "new"):
        records = records_of(out / side)
        assert {(record["backend"], record["status"]) for record in records} == {("mine", "ok")}
    fast, slow = (manifest_of(out / side)["plugins"][0] for side in ("base", "new"))
    assert fast["sha256"] != slow["sha256"]
    code, said, err = command("compare", out / "base", out / "new")
    assert code == 0, err
    assert "mine" in said
    page = tmp_path / "page.html"
    code, _, err = command("report", out / "base", out / "new", "--verdicts", "-o", page)
    assert code == 0, err
    assert f"fast ({git(repo, 'rev-parse', 'fast')[:10]})" in page.read_text()
