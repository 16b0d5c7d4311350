"""The deployments `tune` and `steer`: their form, and the process that serves them. docs/deploy.md."""
