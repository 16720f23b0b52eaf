"""The kernels of a git revision, on a repository made for the test."""

import pytest
from repositories import git

from lstm_harness.ab.revisions import checked_out, repository, working_tree
from lstm_harness.model.errors import UserError


@pytest.fixture
def repo(tmp_path):
    """A repository whose kernels changed once, and again without a commit."""
    top = tmp_path / "repo"
    package = top / "kernels" / "lstm_kernels"
    package.mkdir(parents=True)
    git(top, "init", "--quiet")
    for text in ("first", "second"):
        (package / "__init__.py").write_text(text)
        git(top, "add", "-A")
        git(top, "commit", "--quiet", "-m", text)
    (package / "__init__.py").write_text("not committed")
    return top


def text_of(revision):
    return (revision.root / "lstm_kernels" / "__init__.py").read_text()


def test_revision_has_its_own_kernels_whatever_the_tree_holds(repo, tmp_path):
    first = checked_out("HEAD~1", repo, tmp_path / "first")
    second = checked_out("HEAD", repo, tmp_path / "second")
    assert (text_of(first), text_of(second)) == ("first", "second")
    sha = git(repo, "rev-parse", "HEAD~1")
    assert (first.name, first.commit) == ("HEAD~1", sha)
    assert first.title == f"HEAD~1 ({sha[:10]})"
    assert checked_out(sha, repo, tmp_path / "again").title == sha[:10]
    assert git(repo, "status", "--porcelain") == "M kernels/lstm_kernels/__init__.py"


def test_working_tree_is_copied_as_it_is_now(repo, tmp_path):
    found = working_tree(repo, tmp_path / "tree")
    (repo / "kernels" / "lstm_kernels" / "__init__.py").write_text("edited meanwhile")
    assert text_of(found) == "not committed"
    assert found.commit is None


def test_repository_is_found_from_within(repo):
    assert repository(repo / "kernels") == repo


def test_what_cannot_be_compared_is_said_in_a_line(repo, tmp_path):
    with pytest.raises(UserError, match=r"git knows no revision 'nope'; expected a commit"):
        checked_out("nope", repo, tmp_path / "x")
    git(repo, "rm", "-r", "--quiet", "--cached", "kernels")
    git(repo, "commit", "--quiet", "--allow-empty", "-m", "gone")
    with pytest.raises(UserError, match="revision 'HEAD' has no folder kernels"):
        checked_out("HEAD", repo, tmp_path / "y")
    with pytest.raises(UserError, match="not a git repository"):
        repository(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    with pytest.raises(
        UserError, match=r"has no kernels/lstm_kernels/__init__.py; run this inside"
    ):
        repository(other)


def test_a_shallow_clone_is_said_to_be_one(repo, tmp_path):
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repo}", "shallow")
    with pytest.raises(UserError, match=r"'HEAD~1'.*shallow: git fetch --unshallow"):
        checked_out("HEAD~1", tmp_path / "shallow", tmp_path / "x")
