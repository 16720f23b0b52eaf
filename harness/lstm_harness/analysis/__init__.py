"""Records to what they say: summary, ranking, ratios, statistics."""
