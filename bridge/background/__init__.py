"""Work beside the calls: jobs that keep their pace, and what starts them again."""
