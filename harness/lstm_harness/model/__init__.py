"""Values: cases, records, plans, ceilings, and every message between processes."""
