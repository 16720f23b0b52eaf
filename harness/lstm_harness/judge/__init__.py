"""Two summaries to verdicts, and what a verdict hangs on."""
