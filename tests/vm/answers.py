"""What clients of a service were told, and what that makes: requests, failures, the longest gap, who served when."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple


class Answer(NamedTuple):
    """One thing that a client asked for. Times are seconds of `time.time`; ``number`` is the commit's or request's."""

    kind: str  # commit or request
    door: str
    client: int
    number: int
    asked: float
    answered: float
    error: str  # empty: it was done, and the client was told so


@dataclass(frozen=True)
class Continuity:
    """The service as its clients saw it."""

    seconds: float
    requests: int
    request_failures: int
    longest_request_gap: float  # seconds between two answers
    commits: int  # acknowledged
    commit_failures: int
    longest_commit_gap: float
    slowest_commit: float  # seconds, of those that were acknowledged
    served_by: tuple[str, ...]  # the doors in the order in which they served; one name twice: it served again

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2)


def continuity(began: float, answers: Sequence[Answer]) -> Continuity:
    commits = [answer for answer in answers if answer.kind == "commit"]
    requests = [answer for answer in answers if answer.kind == "request"]
    good = sorted((answer for answer in answers if not answer.error), key=lambda answer: answer.answered)
    return Continuity(
        seconds=round(max((answer.answered for answer in answers), default=began) - began, 3),
        requests=len(requests),
        request_failures=sum(bool(answer.error) for answer in requests),
        longest_request_gap=round(gap(began, requests).seconds, 3),
        commits=sum(not answer.error for answer in commits),
        commit_failures=sum(bool(answer.error) for answer in commits),
        longest_commit_gap=round(gap(began, commits).seconds, 3),
        slowest_commit=round(max((a.answered - a.asked for a in commits if not a.error), default=0), 3),
        served_by=tuple(door for door, _ in itertools.groupby(answer.door for answer in good)),
    )


class Gap(NamedTuple):
    begins: float
    ends: float

    @property
    def seconds(self) -> float:
        return self.ends - self.begins


def gap(began: float, answers: Iterable[Answer]) -> Gap:
    """The longest time without a good answer, from the begin to the last thing that anybody was told."""
    told = list(answers)
    times = sorted([began, *(answer.answered for answer in told if not answer.error)])
    times.append(max([began, *(answer.answered for answer in told)]))
    return max((Gap(*pair) for pair in itertools.pairwise(times)), key=lambda one: one.seconds)


@dataclass(frozen=True)
class Held:
    """What the database holds of what was acknowledged. None of ``missing`` and ``torn`` may be."""

    acknowledged: int
    missing: tuple[tuple[int, int], ...]  # (client, number) that a client was told to be committed, and is not there
    unacknowledged: int  # there, though no client was told: under way when the line was cut; allowed
    torn: int  # clients whose total is not the sum of their lines: half a transaction


def held(answers: Iterable[Answer], rows: Iterable[tuple[int, int]], torn: int) -> Held:
    told = {(answer.client, answer.number) for answer in answers if answer.kind == "commit" and not answer.error}
    there = set(rows)
    return Held(len(told), tuple(sorted(told - there)), len(there - told), torn)
