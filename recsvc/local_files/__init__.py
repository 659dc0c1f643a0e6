"""Local copies of models, and files derived from them, shared by the processes of a machine."""
