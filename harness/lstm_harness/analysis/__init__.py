"""From records to results: summary, ranking, ratios, statistics."""
