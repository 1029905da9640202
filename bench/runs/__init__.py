"""Runs: what is asked for becomes cells, an engine measures those that are not stored, and a store keeps them."""
