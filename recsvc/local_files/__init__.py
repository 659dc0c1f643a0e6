"""Local copies of models, and what is computed from them once a machine."""
