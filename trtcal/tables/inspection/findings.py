"""Findings: what is wrong with a graph or an engine, and how bad it is."""

from engines.structure.findings import Finding
from trtcal.tables import console

LONGEST_NAME = 40
"""Characters of a node or kernel in a line for readers; --json has whole names."""

_STYLES = {"error": "red", "warning": "yellow", "hint": None, "note": None}


def grouped(findings: tuple[Finding, ...]) -> list[str]:
    """A line per kind of finding: how many, and the first of them in full."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.rule, []).append(finding)
    return [
        f"{found[0].severity}: {console.cut(found[0].message, LONGEST_NAME)}"
        + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
        for found in kinds.values()
    ]


def show_findings(findings: tuple[Finding, ...]) -> None:
    """A table of them, and one of those that ask for nothing; each where there are any."""
    notes = [finding for finding in findings if finding.severity == "note"]
    if others := [finding for finding in findings if finding.severity != "note"]:
        console.table(
            "Findings",
            ("Severity", "Rule", "What"),
            [(finding.severity, finding.rule, finding.message) for finding in others],
            optional=("Rule",),
            styles=[_STYLES[finding.severity] for finding in others],
        )
    if notes:
        console.table(
            "Worth knowing; nothing needs to be done",
            ("Rule", "What"),
            [(finding.rule, finding.message) for finding in notes],
            optional=("Rule",),
        )
