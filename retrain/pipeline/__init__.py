"""The pipeline of a run, stage by stage."""
