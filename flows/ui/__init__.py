"""A study as Prefect shows it, told from behind while it is tuned."""
