"""What the doctor has to say of one place."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any

FINE, RISK, MISSING = "fine", "risk", "missing"
WIDTH = 110


@dataclass(frozen=True)
class Finding:
    """One thing: how bad it is, what it is, what it costs and what to do."""

    level: str
    what: str
    costs: str = ""
    cure: str = ""

    def text(self) -> str:
        """One paragraph."""
        parts = [f"{self.what}."]
        if self.costs:
            parts.append(f"It costs: {self.costs}.")
        if self.cure:
            parts.append(f"What to do: {self.cure}.")
        return textwrap.fill(" ".join(parts), WIDTH, initial_indent=f"  {self.level:8}", subsequent_indent=" " * 10)


@dataclass
class Place:
    """What was looked at, and what was found there."""

    name: str
    path: str
    findings: list[Finding] = field(default_factory=list)

    def fine(self, what: str) -> None:
        """Nothing to do here."""
        self.findings.append(Finding(FINE, what))

    def risk(self, what: str, costs: str, cure: str = "") -> None:
        """Works, but may not."""
        self.findings.append(Finding(RISK, what, costs, cure))

    def missing(self, what: str, costs: str, cure: str = "") -> None:
        """Does not work without it."""
        self.findings.append(Finding(MISSING, what, costs, cure))

    def text(self) -> str:
        """The place and its findings, worst first."""
        order = (MISSING, RISK, FINE)
        rows = sorted(self.findings, key=lambda one: order.index(one.level))
        return "\n".join([f"{self.name} ({self.path})", *(one.text() for one in rows)])

    def facts(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"name": self.name, "path": self.path, "findings": [asdict(one) for one in self.findings]}
