"""The command line, one module a group of commands; the work is done elsewhere."""
