"""The competition at Kaggle, through the real `kaggle` package and real HTTP, against a stub of Kaggle's API."""

import itertools
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from calls import (
    CSV,
    DEATHS,
    MESSAGE,
    PASSING,
    RETRIES,
    SCRIPTS,
    Clock,
    Killed,
    anew,
    dying_after,
    late,
    message_of,
    sign_in,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from kaggle_stub import ALLOWANCE, PHONE, RULES, USERNAME, Fault, KaggleStub, answer, drop, garbage, hang, html, slow

from digits.errors import DigitsError
from digits.kaggle.client import LOOKS

pytestmark = pytest.mark.usefixtures("kaggle_stub", "nothing_printed")


# Reading


def test_the_competition() -> None:
    found = sign_in().competition()
    assert found.max_daily_submissions == 5
    assert found.user_has_entered
    assert (found.user_rank, found.team_count) == (7, 1300)
    assert found.deadline == datetime(2030, 1, 1, tzinfo=UTC)


def test_what_the_competition_leaves_out(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.competition = {"id": 3004, "maxDailySubmissions": 5}
    found = sign_in().competition()
    assert not found.user_has_entered
    assert found.user_rank is None
    assert found.deadline is None


def test_submissions_of_all_pages_come_newest_first(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.largest_page = 3
    refs = [kaggle_stub.add_submission(f"m{number}") for number in range(8)]
    assert [one.ref for one in sign_in().submissions()] == refs[::-1]
    asked = [call.body for call in kaggle_stub.log if call.name == "ListSubmissions"]
    assert [(body.get("page"), body["pageToken"]) for body in asked] == [(1, ""), (None, "3"), (None, "6")]


def test_the_states_of_a_submission(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.add_submission("scored", date="2026-11-23T18:12:35.1230000Z", publicScore="0.99")
    kaggle_stub.add_submission("pending", status=None, publicScore="")
    kaggle_stub.add_submission("refused", status="ERROR", publicScore="", errorDescription="row 3:\n bad")
    refused, pending, scored = sorted(sign_in().submissions(), key=lambda one: -one.ref)
    assert (scored.status, scored.public_score, scored.done) == ("COMPLETE", 0.99, True)
    assert scored.date == datetime(2026, 11, 23, 18, 12, 35, 123000, tzinfo=UTC)
    assert (pending.status, pending.public_score, pending.done) == ("PENDING", None, False)
    assert (refused.status, refused.error_description, refused.done) == ("ERROR", "row 3: bad", True)
    assert (refused.file_name, refused.submitted_by) == ("submission.csv", USERNAME)


@pytest.mark.parametrize(("text", "score"), [("0.5", 0.5), ("", None), (None, None), ("n/a", None), ("nan", None)])
def test_scores_are_texts(text: str | None, score: float | None, kaggle_stub: KaggleStub) -> None:
    kaggle_stub.add_submission("m", publicScore=text)
    assert sign_in().submissions()[0].public_score == score


def test_a_list_whose_pages_never_end_does(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.fail("ListSubmissions", garbage('{"submissions": [{"ref": 1}], "nextPageToken": "7"}'), times=9)
    assert [one.ref for one in sign_in().submissions()] == [1]


def test_the_leaderboard_from_the_top(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.largest_page = 20
    top = sign_in().leaderboard(rows=3)
    assert [(row.rank, row.team_name, row.score) for row in top] == [
        (1, "team 1", 0.9999),
        (2, "team 2", 0.9998),
        (3, "team 3", 0.9997),
    ]
    assert top[0].date == datetime(2026, 11, 20, 10, 0, 0, 500000, tzinfo=UTC)
    assert kaggle_stub.calls("GetLeaderboard") == 1


@pytest.mark.parametrize(
    ("around", "ranks"), [(2, range(1, 11)), (30, range(25, 35)), (48, range(43, 51)), (90, range(0))]
)
def test_the_leaderboard_around_a_rank(around: int, ranks: range, kaggle_stub: KaggleStub) -> None:
    kaggle_stub.largest_page = 20
    assert [row.rank for row in sign_in().leaderboard(around, rows=10)] == list(ranks)


# The allowance


def yesterday() -> str:
    return (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.0000000Z")


@pytest.mark.parametrize("counts", [True, False])
def test_the_allowance_counts_the_submissions_of_this_day(counts: bool, kaggle_stub: KaggleStub) -> None:
    kaggle_stub.counts_submissions = counts
    kaggle_stub.competition["maxDailySubmissions"] = 7
    kaggle_stub.add_submission("a", date=yesterday())
    kaggle_stub.add_submission("b")
    kaggle_stub.add_submission("c", status="ERROR")
    allowance = sign_in().check_may_submit()
    assert (allowance.limit, allowance.used, allowance.left) == (7, 1, 6)
    assert allowance.resets_at > datetime.now(UTC)
    assert (allowance.resets_at.hour, allowance.resets_at.minute) == (0, 0)


def test_whoever_is_on_no_team_yet_has_the_whole_allowance(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.fail("GetSubmissionLimits", garbage("{}"))
    assert sign_in().check_may_submit().left == 5


@pytest.mark.parametrize("counts", [True, False])
def test_an_allowance_that_is_used_up(counts: bool, kaggle_stub: KaggleStub) -> None:
    kaggle_stub.counts_submissions = counts
    for number in range(5):
        kaggle_stub.add_submission(f"m{number}")
    client = sign_in()
    assert client.allowance().left == 0
    message = message_of(client.check_may_submit)
    assert re.search(r"used up: submit again after 00:00 UTC, in \d+ (s|min|h)", message)


def test_rules_not_accepted_are_found_before_anything_is_sent(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.competition["userHasEntered"] = False
    message = message_of(sign_in().check_may_submit)
    assert "https://www.kaggle.com/competitions/digit-recognizer/rules" in message


def test_a_competition_that_takes_no_submissions(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.competition["submissionsDisabled"] = True
    assert "takes no submissions" in message_of(sign_in().check_may_submit)


# Submitting


def test_a_submission_arrives_as_it_is(kaggle_stub: KaggleStub, csv: Path) -> None:
    submission = sign_in().submit(csv, MESSAGE)
    (row,) = kaggle_stub.submissions
    assert (row["ref"], row["description"]) == (submission.ref, MESSAGE)
    assert kaggle_stub.uploaded(row["blob"]) == CSV.encode()
    assert (submission.status, submission.public_score) == ("PENDING", None)
    assert (submission.description, submission.file_name) == (MESSAGE, "submission.csv")
    assert kaggle_stub.log[-2].name == "PUT"
    assert "authorization" not in kaggle_stub.log[-2].headers


def test_the_same_message_is_not_submitted_twice(kaggle_stub: KaggleStub, csv: Path) -> None:
    client = sign_in()
    first = client.submit(csv, MESSAGE)
    assert client.submit(csv, MESSAGE).ref == first.ref
    assert kaggle_stub.calls("CreateSubmission") == 1
    assert client.submit(csv, MESSAGE, again=True).ref != first.ref
    assert len(kaggle_stub.submissions) == 2


@pytest.mark.parametrize("fault", [drop(), drop(after=True)], ids=str)
def test_an_older_submission_is_not_taken_for_the_one_whose_answer_is_lost(
    fault: Fault, kaggle_stub: KaggleStub, csv: Path
) -> None:
    client = sign_in()
    client.submit(csv, MESSAGE)
    kaggle_stub.fail("CreateSubmission", fault)
    assert client.submit(csv, MESSAGE, again=True).ref == kaggle_stub.submissions[-1]["ref"]
    assert len(kaggle_stub.submissions) == 2


def test_a_submission_is_found_by_its_message(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.keeps_white_space = False
    kaggle_stub.add_submission("by hand")
    ref = kaggle_stub.add_submission("run 7 dev 99.5")
    client = sign_in()
    found = client.find(" run 7\tdev  99.5 ")
    assert found
    assert found.ref == ref
    assert client.find("run 7") is None


STEPS = ["StartSubmissionUpload", "PUT", "CreateSubmission"]


LIES = [html(), garbage("{}")]  # a storage that answers 200 has the file, as far as anybody can tell
TROUBLED_STEPS = [
    *itertools.product(STEPS, [*map(late, PASSING), late(garbage("{}"))]),
    *(pair for pair in itertools.product(STEPS, PASSING) if pair[0] != "PUT" or pair[1] not in LIES),
    ("StartSubmissionUpload", garbage("{}")),
]


@pytest.mark.parametrize(("step", "fault"), TROUBLED_STEPS, ids=str)
def test_an_upload_with_trouble_arrives_once(step: str, fault: Fault, kaggle_stub: KaggleStub, csv: Path) -> None:
    kaggle_stub.fail(step, fault)
    client = sign_in(fault=fault)
    kaggle_stub.add_submission("another")
    submission = client.submit(csv, MESSAGE)
    assert [row["description"] for row in kaggle_stub.submissions] == ["another", MESSAGE]
    assert submission.ref == kaggle_stub.submissions[1]["ref"]
    assert kaggle_stub.uploaded(kaggle_stub.submissions[1]["blob"]) == CSV.encode()


@pytest.mark.parametrize("lag", [1, 3])
def test_a_submission_whose_answer_is_lost_is_looked_for_until_it_is_listed(
    lag: int, kaggle_stub: KaggleStub, csv: Path
) -> None:
    kaggle_stub.lists_until_listed = lag
    kaggle_stub.fail("CreateSubmission", drop(after=True))
    said: list[str] = []
    submission = sign_in(said.append).submit(csv, MESSAGE)
    assert [row["ref"] for row in kaggle_stub.submissions] == [submission.ref]
    assert said == ["The connection to Kaggle was cut off; looking whether the submission arrived"]


def test_an_upload_is_not_sent_again_before_the_list_has_been_read(kaggle_stub: KaggleStub, csv: Path) -> None:
    client = sign_in()
    kaggle_stub.fail("CreateSubmission", drop())
    client.submit(csv, MESSAGE)
    names = kaggle_stub.names
    first, second = (place for place, name in enumerate(names) if name == "CreateSubmission")
    assert names[first + 1 : second] == ["ListSubmissions"] * LOOKS
    assert len(kaggle_stub.submissions) == 1


def test_a_list_that_cannot_be_read_leaves_it_open_and_the_next_call_settles_it(
    kaggle_stub: KaggleStub, csv: Path
) -> None:
    client = sign_in()
    kaggle_stub.fail("CreateSubmission", drop(after=True))
    kaggle_stub.fail("ListSubmissions", slow(0), *[answer(503)] * (1 + RETRIES))
    message = message_of(lambda: client.submit(csv, MESSAGE))
    assert message.startswith("Whether the submission arrived is not known (The connection to Kaggle was cut off, ")
    assert "run the same command again" in message
    assert client.submit(csv, MESSAGE).ref == kaggle_stub.submissions[0]["ref"]
    assert len(kaggle_stub.submissions) == 1


def test_a_process_that_dies_after_the_upload_leaves_no_second_submission_to_be_made(
    kaggle_stub: KaggleStub, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle_stub.lists_until_listed = 3
    dying = sign_in()
    send = dying._connection.call

    def die(method: str, **fields: Any) -> Any:
        given = send(method, **fields)
        if method == "create_submission":
            raise Killed
        return given

    monkeypatch.setattr(dying._connection, "call", die)
    with pytest.raises(Killed):
        dying.submit(csv, MESSAGE)
    found = sign_in().find(MESSAGE, patient=True)
    assert found
    assert found.ref == kaggle_stub.submissions[0]["ref"]


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ((403, RULES), "join it at https://www.kaggle.com/competitions/digit-recognizer/rules"),
        ((403, PHONE), "phone number verified first"),
        ((400, ALLOWANCE), "Today's submissions are used up"),
        ((400, "Submission not allowed: Wrong | file"), "(400, Submission not allowed: Wrong | file"),
        ((404, "Competition not found"), "does not know what was asked for"),
        ((401, "Unauthenticated"), "does not accept the token"),
    ],
)
@pytest.mark.parametrize("step", ["StartSubmissionUpload", "CreateSubmission"])
def test_a_refused_submission_is_not_sent_again(
    step: str, reason: tuple[int, str], says: str, kaggle_stub: KaggleStub, csv: Path
) -> None:
    kaggle_stub.reasons[step] = reason
    assert says in message_of(lambda: sign_in().submit(csv, MESSAGE))
    assert kaggle_stub.calls(step) == 1
    assert kaggle_stub.submissions == []


@pytest.mark.parametrize(
    ("page", "says"),
    [('{"message": "Not today."}', "made no submission of it (Not today)"), ("null", "can't be understood")],
)
def test_an_answer_that_names_no_submission(page: str, says: str, kaggle_stub: KaggleStub, csv: Path) -> None:
    """Nobody knows what it means, so the submission is looked for with patience and never sent again."""
    client = sign_in()
    kaggle_stub.fail("CreateSubmission", garbage(page))
    assert says in message_of(lambda: client.submit(csv, MESSAGE))
    assert kaggle_stub.calls("CreateSubmission") == 1
    kaggle_stub.lists_until_listed = 3
    kaggle_stub.fail("CreateSubmission", garbage(page, after=True))
    assert client.submit(csv, MESSAGE).ref == kaggle_stub.submissions[0]["ref"]


def test_a_submission_without_a_message_is_a_mistake(csv: Path) -> None:
    client = sign_in()
    with pytest.raises(ValueError, match="known by its message"):
        client.submit(csv, " ")


@pytest.mark.parametrize("fault", [answer(403), answer(503), drop(), hang()], ids=str)
def test_an_upload_that_never_works_is_told(fault: Fault, kaggle_stub: KaggleStub, csv: Path) -> None:
    kaggle_stub.fail("PUT", fault, times=9)
    message_of(lambda: sign_in(fault=fault).submit(csv, MESSAGE))
    assert kaggle_stub.calls("PUT") == kaggle_stub.calls("StartSubmissionUpload") == 1 + RETRIES
    assert kaggle_stub.submissions == []


def test_a_file_that_cannot_be_read_is_told_before_anything_is_sent(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    client = sign_in()
    assert "can't be read" in message_of(lambda: client.submit(tmp_path / "none.csv", MESSAGE))
    assert kaggle_stub.names == ["IntrospectToken"]


@settings(max_examples=35, deadline=None)
@given(script=SCRIPTS, lag=st.integers(0, 3), deaths=DEATHS)
def test_whatever_happens_there_is_one_submission(
    script: list[Fault | None], lag: int, deaths: list[int | None]
) -> None:
    """Submit until it works, looking for the earlier attempt first, as the command does."""
    with anew() as (stub, folder):
        path = write(folder / "submission.csv", CSV)
        stub.lists_until_listed = lag
        stub.script = iter(script)
        for attempt in range(60):
            try:
                with dying_after(deaths.pop() if deaths else None):
                    client = sign_in(fault=hang())
                    found = client.find(MESSAGE, patient=True) if attempt else None
                    submission = found or client.submit(path, MESSAGE)
            except (DigitsError, Killed):
                continue
            break
        (row,) = stub.submissions
        assert (row["ref"], row["description"]) == (submission.ref, MESSAGE)
        assert stub.uploaded(row["blob"]) == CSV.encode()


# Waiting


def test_waiting_for_the_score(kaggle_stub: KaggleStub, csv: Path) -> None:
    kaggle_stub.polls_until_known, kaggle_stub.polls_until_scored = 1, 3
    client = sign_in()
    submission = client.submit(csv, MESSAGE)
    looks: list[str] = []
    scored = client.wait(submission.ref, poll=2, tick=lambda one: looks.append(one.status))
    assert (scored.ref, scored.public_score) == (submission.ref, 0.98765)
    assert looks == ["PENDING"] * 3 + ["COMPLETE"]


def test_waiting_for_an_error(kaggle_stub: KaggleStub, csv: Path) -> None:
    kaggle_stub.error = "Submission must have 28000 rows"
    client = sign_in()
    refused = client.wait(client.submit(csv, MESSAGE).ref)
    assert (refused.status, refused.error_description) == ("ERROR", "Submission must have 28000 rows")


def test_waiting_ends(kaggle_stub: KaggleStub, csv: Path) -> None:
    kaggle_stub.score = None
    clock = Clock()
    client = sign_in(clock=clock)
    assert client.wait(client.submit(csv, MESSAGE).ref, timeout=60, poll=5).status == "PENDING"
    assert clock.now == 60


def test_waiting_outlives_trouble(kaggle_stub: KaggleStub, csv: Path) -> None:
    client = sign_in(fault=hang())
    ref = client.submit(csv, MESSAGE).ref
    kaggle_stub.fail("GetSubmission", drop(), answer(503), hang())
    assert client.wait(ref).public_score == 0.98765
