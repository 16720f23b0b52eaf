"""What lies on disk: runs, kept ceilings, the cache folder."""
