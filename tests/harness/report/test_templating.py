from lstm_harness.report import templating


def test_what_stands_in_backticks_is_code_and_all_of_it_escaped():
    made = templating.with_code("type `run <b>`, then <i>`")
    assert made == "type <code>run &lt;b&gt;</code>, then &lt;i&gt;`"
