"""What others learn of the feed: Segment events, served pages, features of users."""
