"""How a definition becomes code: traced once, differentiated, written out for every backend."""
