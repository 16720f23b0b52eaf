"""What a command told on stderr, without the lines on noise: not every machine is quiet."""

# What `console.run_table.told_noise` says of any run.
NOISE = ("% of the samples were taken while", "the 95% interval of ")


def but_noise(told: str) -> list[str]:
    """The lines of a text, without those on noise."""
    return [line for line in told.splitlines() if not any(part in line for part in NOISE)]
