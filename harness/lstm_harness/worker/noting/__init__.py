"""Records the calls of recurrent layers inside a user's program."""
