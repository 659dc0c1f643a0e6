"""Analytics: Segment events, served pages, features of users."""
