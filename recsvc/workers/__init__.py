"""The worker processes that serve on one port, and their supervisor."""
