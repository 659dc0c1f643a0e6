"""What trending costs, and what it ranks."""
