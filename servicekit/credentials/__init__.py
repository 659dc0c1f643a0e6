"""Certificates, keys and passwords: files, what a server shows, and renewal while a program runs."""
