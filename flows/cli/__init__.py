"""The command `abohb`: docs/commands.md."""
