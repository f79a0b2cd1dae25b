"""Whether anything was lost, done twice or sold twice: every promise of the shop checked over all databases."""

from monitoring.audit.report import OFFENDERS, Check, Report, Result
from monitoring.audit.running import CHECKS, UnknownCheck, audit

__all__ = ["CHECKS", "OFFENDERS", "Check", "Report", "Result", "UnknownCheck", "audit"]
