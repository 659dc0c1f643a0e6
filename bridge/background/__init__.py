"""Background work: jobs that keep their pace, and the supervision that restarts them."""
