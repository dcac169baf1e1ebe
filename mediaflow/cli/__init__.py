"""The command `mediaflow`: everything that people type."""
