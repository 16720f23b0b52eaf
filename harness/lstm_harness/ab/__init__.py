"""Two sides measured here in turn, and judged."""
