"""Small real tasks, a file each: its data, its model, and what it shows."""
