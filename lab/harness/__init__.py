"""Starts and ends services and shops, and asks a running shop."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
