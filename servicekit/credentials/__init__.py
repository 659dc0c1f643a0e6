"""Certificates, keys and passwords: files, the identity of a server, and renewal while a program runs."""
