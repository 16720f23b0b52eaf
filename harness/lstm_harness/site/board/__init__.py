"""The board: a page for each class of device, with the fastest correct backend of each case."""
