"""The main process of a run: who takes part, whose turn it is, and what is kept."""
