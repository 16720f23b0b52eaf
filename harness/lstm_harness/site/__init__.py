"""Pages of many runs, written or served."""
