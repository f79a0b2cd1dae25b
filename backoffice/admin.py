"""Registers every page of the back office; Django's admin looks for this file."""

from importlib import import_module
from importlib.util import find_spec

from backoffice import deadletters, monitoring, shards, users  # noqa: F401
from values.contexts import all_contexts

# A context has its pages in the module of its name.
for label in all_contexts():
    if find_spec(f"backoffice.{label}"):
        import_module(f"backoffice.{label}")
