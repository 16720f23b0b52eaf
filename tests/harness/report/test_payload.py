import json

from lstm_harness.report.payload import json_for_script, plot_text


def test_json_cannot_end_its_script():
    made = json_for_script({"<": "</script>&\u2028\u2029\ud800"})
    assert not set(made) & set("<>&\u2028\u2029\ud800")
    assert json.loads(made)["<"].startswith("</script>&\u2028\u2029")


def test_plotly_shows_a_name_as_it_is():
    assert plot_text("<b>&amp;</b>") == "&lt;b&gt;&amp;amp;&lt;/b&gt;"
