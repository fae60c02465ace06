"""Why a stored decision came out as it did, and what would change it."""
