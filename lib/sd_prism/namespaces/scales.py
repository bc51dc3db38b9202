"""Scores, years and grades as the words that models were taught, from their published cards."""

from __future__ import annotations

import re

# (threshold, words): a score must be greater than the threshold
Scale = tuple[tuple[float, str], ...]
LOWEST = float("-inf")

SOTE_AESTHETIC: Scale = (
    (0.90, "extremely aesthetic"),
    (0.80, "very aesthetic"),
    (0.70, "aesthetic"),
    (0.50, "slightly aesthetic"),
    (0.40, "not displeasing"),
    (0.30, "not aesthetic"),
    (0.25, "slightly displeasing"),
    (0.10, "displeasing"),
    (LOWEST, "very displeasing"),
)
SOTE_QUALITY: Scale = (
    (0.980, "best quality"),
    (0.900, "high quality"),
    (0.750, "great quality"),
    (0.500, "medium quality"),
    (0.250, "normal quality"),
    (0.125, "bad quality"),
    (0.025, "low quality"),
    (LOWEST, "worst quality"),
)
ANIMAGINE_AESTHETIC: Scale = (
    (0.71, "very aesthetic"),
    (0.45, "aesthetic"),
    (0.27, "displeasing"),
    (LOWEST, "very displeasing"),
)
ANIMAGINE_QUALITY: Scale = (
    (0.95, "masterpiece"),
    (0.85, "best quality"),
    (0.75, "great quality"),
    (0.50, "good quality"),
    (0.25, "normal quality"),
    (0.10, "low quality"),
    (LOWEST, "worst quality"),
)

# (first year, word)
Dates = tuple[tuple[float, str], ...]
SOTE_DATES: Dates = ((2022, "newest"), (2019, "recent"), (2015, "mid"), (2011, "early"), (LOWEST, "oldest"))
ANIMAGINE_DATES: Dates = ((2021, "newest"), (2018, "recent"), (2015, "mid"), (2011, "early"), (LOWEST, "oldest"))

# Prism's own: a score of 0 to 10 as a grade of quality, for models without scores
GRADE_OF_SCORE = {9: "best", 8: "high", 7: "great", 6: "good", 5: "normal", 4: "bad", 3: "low"}
# Prism's own: the other way round, for Pony, whose lowest trained score is 4
SCORE_OF_GRADE = {
    **{grade: max(score, 4) for score, grade in GRADE_OF_SCORE.items()},
    "masterpiece": 9,
    "medium": 6,
    "worst": 4,
}


def on_scale(scale: Scale, score: float) -> str:
    """The words of a score from 0 to 1; one beyond them takes the first or the last words."""
    return next(text for threshold, text in scale if score > threshold)


def date_word(dates: Dates, value: str) -> str | None:
    """The word for the year that a date begins with; years beyond the data set take its first or its last word."""
    year = re.match(r"\d{4}(?!\d)", value, re.ASCII)
    return next(word for first, word in dates if int(year[0]) >= first) if year else None


def grade_of(score: float) -> str:
    """The grade of a score from 0 to 10."""
    return GRADE_OF_SCORE.get(int(min(max(score, 0), 9)), "worst")
