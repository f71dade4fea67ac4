"""A run on its way to Kaggle: what is checked before a byte goes up, and what came of it, written into the run.

An attempt is written into the run before it starts, so that one which was cut short (a kill, a lost answer) is looked
for at Kaggle before anything is sent again.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from digits.competition import TEST
from digits.entry import SENDING, Gap, gap, record
from digits.errors import DigitsError
from digits.kaggle.answers import Allowance, Submission
from digits.kaggle.client import KaggleClient
from digits.runs import Run, dev_score
from digits.submission import check_submission

MARK = 12  # characters of the file's SHA-256 in the message

Say = Callable[[str], object]


def message(run: Run, text: str = "") -> str:
    """What the submission says at Kaggle: the user's text, the run, its dev score and the start of the file's hash."""
    score = dev_score(run)
    dev = f"dev {score.accuracy:.4f}" if score else "no dev"
    return " ".join(part for part in (text.strip(), run.id, dev, mark(run)) if part)


def mark(run: Run) -> str:
    """What tells this very file among all submissions."""
    return f"sha {run.record['submission']['sha256'][:MARK]}"


def check_run(run: Run, test_sha256: str) -> None:
    """Raise DigitsError unless the run can be submitted, as far as this machine knows.

    It is finished and not of sample data, its submission.csv is what it wrote, and fits the competition's test.csv.
    `test_sha256` is that of the test.csv at hand.
    """
    if run.record["status"] != "finished":
        raise DigitsError(f"the run {run.id} is not finished: go on with `digits train --resume {run.id}`")
    if run.sample:
        raise DigitsError(
            f"the run {run.id} is of sample data, which Kaggle can't score: get the competition's data with "
            "`digits data`, then train on that"
        )
    if run.record["data"]["sha256"][TEST.file] != test_sha256:
        raise DigitsError(f"the run {run.id} predicted another test.csv than this one: point --data at its data")
    if test_sha256 != TEST.sha256:
        raise DigitsError(f"the {TEST.file} at hand is not the competition's: get it with `digits data --replace`")
    path = run.path("submission.csv")
    check_submission(path, TEST.rows)
    if hashlib.sha256(path.read_bytes()).hexdigest() != run.record["submission"]["sha256"]:
        raise DigitsError(f"{path} is not what the run wrote: write it anew with `digits predict {run.id}`")


def earlier(run: Run, ledger: Iterable[Run], listed: Iterable[Submission]) -> str | None:
    """Where this very file has been submitted already, in words; None if it has not.

    Looked for in the runs, by the file's hash, and in Kaggle's list, by the hash's start in the message.
    """
    digest = run.record["submission"]["sha256"]
    for other in ledger:
        for entry in other.record["submissions"]:
            if entry["sha256"] == digest and entry["status"] not in (SENDING, "ERROR"):
                return f"on {entry['date'][:10]}, as a submission of {other.id}"
    for submission in listed:
        if mark(run) in submission.description and submission.status != "ERROR":
            return f"on {submission.date:%Y-%m-%d}, as {submission.description!r}"
    return None


@dataclass(frozen=True)
class Outcome:
    """What came of a submission."""

    submission: Submission
    gap: Gap | None
    rank: int | None
    teams: int | None
    allowance: Allowance | None


def check(run: Run, ledger: Iterable[Run], client: KaggleClient, again: bool, say: Say) -> Allowance:
    """Every check that needs Kaggle: this very file is new to it, the rules are accepted, something is left today.

    Raises DigitsError where one fails. What became of an earlier attempt is to be settled before.
    """
    if not again:
        found = earlier(run, ledger, client.submissions())
        if found:
            raise DigitsError(f"this very file was submitted {found}: train another run, or send it with --again")
        say("not submitted before")
    allowance = client.check_may_submit()
    say(f"rules accepted, {allowance.left} of {allowance.limit} submissions left today")
    return allowance


def settle(run: Run, client: KaggleClient) -> Submission | None:
    """Find out what became of an attempt whose answer is not known; its submission if it arrived."""
    for entry in list(run.record["submissions"]):
        if entry["status"] == SENDING:
            found = client.find(entry["message"], patient=True)
            if found:
                record(run, found)
                return found
            with run.changing():
                run.update(submissions=[other for other in run.record["submissions"] if other != entry])
    return None


def send(run: Run, client: KaggleClient, text: str, again: bool) -> Submission:
    """Submit the run's file as `text`, exactly once; what is known of it is in the run at every moment."""
    attempt = {
        "status": SENDING,
        "message": text,
        "sha256": run.record["submission"]["sha256"],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # One that Kaggle could not score stands in its list with the same message, and must not be taken for this one.
    failed = any(entry["status"] == "ERROR" and entry["message"] == text for entry in run.record["submissions"])
    with run.changing():
        run.update(submissions=[*run.record["submissions"], attempt])
    submission = client.submit(run.path("submission.csv"), text, again=again or failed)
    record(run, submission)
    return submission


def conclude(run: Run, client: KaggleClient, submission: Submission) -> Outcome:
    """Put what Kaggle says of the submission by now into the run: score, rank, what is left of the day."""
    dev = dev_score(run)
    difference = gap(submission.public_score, dev) if submission.public_score is not None and dev else None
    rank = teams = allowance = None
    try:
        competition = client.competition()
        rank, teams = competition.user_rank, competition.team_count
        allowance = client.allowance()
    except DigitsError:
        pass  # the score is there, and what goes with it can be asked for later
    record(
        run,
        submission,
        gap=difference.value if difference else None,
        gap_standard_error=difference.standard_error if difference else None,
        rank=rank,
        teams=teams,
        left_today=allowance.left if allowance else None,
    )
    return Outcome(submission, difference, rank, teams, allowance)
