"""The figures of the report in the page's order: a line here and a module make one more."""

from lstm_harness.report.panels import (
    backward_ratio,
    costs,
    energy,
    ladder,
    limits,
    memory,
    padding,
    roofline,
    sequence_cost,
    throughput,
)

# Above the section on trust.
FIRST = (ladder.panel, backward_ratio.panel)
# Below it.
FURTHER = (
    throughput.over_t,
    throughput.over_b,
    limits.panel,
    roofline.panel,
    sequence_cost.panel,
    memory.panel,
    energy.panel,
    padding.panel,
    costs.panel,
)
