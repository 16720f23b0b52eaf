"""The main process of a run: which backends run, in which order, and what is stored."""
