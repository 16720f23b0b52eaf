"""What a command told on stderr, apart from lines on noise: no test knows how quiet its machine is."""

# What `console.run_table.told_noise` says of any run.
NOISE = ("% of the samples were taken while", "the 95% interval of ")


def but_noise(told: str) -> list[str]:
    """The lines of a text, without those on noise."""
    return [line for line in told.splitlines() if not any(part in line for part in NOISE)]
