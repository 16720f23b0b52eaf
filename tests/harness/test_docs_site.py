"""Links out of docs/ lead somewhere in the site, too; `make docs` builds the whole, strictly."""

from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

import pytest
from places import ROOT


@pytest.fixture(scope="module")
def outside_links():
    pytest.importorskip("mkdocs")
    spec = spec_from_file_location("outside_links", ROOT / "docs" / "outside_links.py")
    hook = module_from_spec(spec)
    spec.loader.exec_module(hook)
    return hook


@pytest.mark.parametrize(
    ("written", "with_address", "without"),
    [
        ("[x](../a/b.py)", "[x](https://here/blob/main/a/b.py)", "x (`a/b.py`)"),
        ("[x](../a.md#b)", "[x](https://here/blob/main/a.md#b)", "x (`a.md`)"),
        ("![x](../results/a.png)", "![x](results/a.png)", "![x](results/a.png)"),
        (
            "[method](method.md#a-floor)",
            "[method](method.md#a-floor)",
            "[method](method.md#a-floor)",
        ),
        ("[web](https://there/../x)", "[web](https://there/../x)", "[web](https://there/../x)"),
    ],
)
def test_a_link_out_of_the_docs_is_to_the_repository(outside_links, written, with_address, without):
    def site(address):
        return outside_links.on_page_markdown(written, SimpleNamespace(repo_url=address))

    assert site("https://here/") == with_address
    assert site(None) == without
