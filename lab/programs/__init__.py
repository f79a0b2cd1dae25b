"""Functions that run in a process of the shop under test, called by name (see lab.harness.shell)."""
