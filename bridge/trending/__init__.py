"""The fallback: its SQL, its refresh, its ranking in memory, its snapshot on disk."""
