"""`abohb simulate`: methods against recorded curves."""
