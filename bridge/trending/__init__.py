"""The fallback: counts that grow, their formula, the ranking in memory, its snapshot on disk."""
