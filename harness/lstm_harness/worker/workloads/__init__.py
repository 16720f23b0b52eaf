"""Small real tasks, one file each: its data, its model, and its examples."""
