"""Each is `python -m benchmarks.NAME [--json]`: a table, or one JSON object of figures."""
