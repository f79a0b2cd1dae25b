"""Load scenarios: many customers at once, then the audit and a report."""
