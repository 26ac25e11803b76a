"""Numbers that others published, as data, and whether one of our results was measured the same way.

A number without its protocol invites a false comparison: every row says how it was measured, and `matching` says in a
few words where ours differs.
"""

from __future__ import annotations

from pretext.published.figure import METRICS, PublishedFigure
from pretext.published.matching import PUBLISHED, matching, protocol_facts

__all__ = ["METRICS", "PUBLISHED", "PublishedFigure", "matching", "protocol_facts"]
