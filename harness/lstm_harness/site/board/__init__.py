"""The board: a page for each device class, with the fastest correct backend of each case."""
