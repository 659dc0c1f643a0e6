"""A page: recommendations, similar videos, explanations, tokens, shortlists."""
