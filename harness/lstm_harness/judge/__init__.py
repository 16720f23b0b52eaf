"""From two summaries to verdicts, and what a verdict depends on."""
