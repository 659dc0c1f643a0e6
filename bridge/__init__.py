"""The gateway of the feed: pages that never fail their viewer, and interactions that are never lost."""
