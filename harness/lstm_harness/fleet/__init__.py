"""A run over many devices: a coordinator gives parts of a plan to an engine, and merges them."""
