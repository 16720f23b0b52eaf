"""What notes the recurrent layers of a user's program, inside that program."""
