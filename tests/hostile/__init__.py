"""Inputs that are wrong on purpose: each with the exit status and the one line that it must end in."""
