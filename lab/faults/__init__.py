"""Faults under a shop, while customers order; each is judged by what they were promised."""
