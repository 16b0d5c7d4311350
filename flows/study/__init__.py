"""A study: the one model behind the YAML file, the flow's parameters and Python."""
