"""Many runs of one machine to series, with their changes marked."""
