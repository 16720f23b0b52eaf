"""What is stored on disk: runs, ceilings, the cache folder."""
