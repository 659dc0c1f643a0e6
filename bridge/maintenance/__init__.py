"""Work on interactions that are stored already: backfill, erasure, retention."""
