"""Results for people and machines: terminal, HTML, JUnit XML, Markdown, Prometheus, JSON."""

from chaosgrade.report.files import write_reports

__all__ = ["write_reports"]
