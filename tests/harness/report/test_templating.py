from plotly.offline import get_plotlyjs
from written_pages import unpacked

from lstm_harness.report import templating


def test_what_stands_in_backticks_is_code_and_all_of_it_escaped():
    made = templating.with_code("type `run <b>`, then <i>`")
    assert made == "type <code>run &lt;b&gt;</code>, then &lt;i&gt;`"


def test_plotly_comes_packed_and_whole_under_the_hash_of_its_code():
    assets = templating.assets()
    code = unpacked(assets["plotly"])
    assert code == get_plotlyjs()
    assert len(assets["plotly"]) < 0.45 * len(code)
    assert assets["policy"] == templating.policy(code, assets["script"])
