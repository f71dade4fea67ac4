"""Kaggle: the only module that knows it.

Credentials, requests and answers are those of the real `kaggle` package. What it lacks is added here: a limit
on the time of every call, calls that only read made again when they fail, an upload that arrives exactly
once, a download that is checked and resumed, and one sentence with the remedy for each way to fail.
"""

import contextlib
import email.utils
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import math
import operator
import os
import re
import socket
import sys
import time
import types
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self, TypeVar

from digits.errors import DigitsError

COMPETITION = "digit-recognizer"
PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}"
RULES = f"{PAGE}/rules"
SETTINGS = "https://www.kaggle.com/settings"
KERNELS = "https://www.kaggle.com/code"

ARCHIVE = f"{COMPETITION}.zip"
MEMBERS = ("train.csv", "test.csv", "sample_submission.csv")
LARGEST_MEMBER = 1 << 30  # bytes unpacked; the competition's largest file has 77 million
CHUNK = 1 << 14  # bytes; a connection that breaks loses the chunk that it broke in

PAGE_SIZE = 200  # rows a page, the most that Kaggle gives
LONGEST_PAUSE = 60.0  # seconds; whoever has to wait longer is better told so than kept waiting
LOOKS = 5  # times that the list of submissions is read before a lost one counts as not arrived

# Where the package has its calls: the module of a service's requests, and the way to its client.
SERVICES = {
    "competitions": ("kagglesdk.competitions.types.competition_api_service", "competitions.competition_api_client"),
    "kernels": ("kagglesdk.kernels.types.kernels_api_service", "kernels.kernels_api_client"),
}

Status = Literal["PENDING", "COMPLETE", "ERROR"]
Progress = Callable[[int, int | None], object]
Say = Callable[[str], object]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Competition:
    """What Kaggle says of the competition, and of the user in it."""

    max_daily_submissions: int
    user_has_entered: bool
    user_rank: int | None
    team_count: int
    deadline: datetime | None
    submissions_disabled: bool


@dataclass(frozen=True)
class Submission:
    """A submission of the user's team. `public_score` is the accuracy, None until Kaggle has it."""

    ref: int
    date: datetime
    description: str
    file_name: str
    status: Status
    public_score: float | None
    error_description: str
    submitted_by: str

    @property
    def done(self) -> bool:
        """Whether Kaggle has scored it, or given it up."""
        return self.status != "PENDING"


@dataclass(frozen=True)
class Allowance:
    """How many submissions the team has left today, a day that at Kaggle ends at 00:00 UTC."""

    limit: int
    used: int
    left: int
    resets_at: datetime


@dataclass(frozen=True)
class LeaderboardRow:
    """A team's place on the public leaderboard."""

    rank: int
    team_name: str
    score: float | None
    date: datetime


@dataclass(frozen=True)
class Session:
    """How the newest version of a kernel is doing, in Kaggle's words, and why it failed if it did.

    `status` is QUEUED, RUNNING, COMPLETE, ERROR, CANCEL_REQUESTED, CANCEL_ACKNOWLEDGED, or NEW_SCRIPT.
    """

    status: str
    failure: str = ""

    @property
    def done(self) -> bool:
        """It has come to its end, a good one or not."""
        return self.status in ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")

    @property
    def complete(self) -> bool:
        """It has come to a good end."""
        return self.status == "COMPLETE"

    def __str__(self) -> str:
        words = self.status.lower().replace("_", " ")
        return {"cancel acknowledged": "cancelled", "new script": "not run yet"}.get(words, words)


@dataclass(frozen=True)
class Pushed:
    """A version of a kernel at Kaggle: "owner/slug", its number, and the address of its page."""

    ref: str
    version: int
    url: str


@dataclass(frozen=True)
class Outputs:
    """What a kernel has left: its files, as addresses by their names, and what it printed."""

    files: dict[str, str]
    log: str


class KaggleError(DigitsError):
    """A call to Kaggle that failed: what happened, and the remedy.

    `passing` says that the same call may work in a while, `pause` after how many seconds if Kaggle says so,
    `full` that as many kernels run as may, and `status` is the HTTP status if there was one.
    """

    def __init__(
        self,
        what: str,
        remedy: str,
        *,
        passing: bool = False,
        pause: float | None = None,
        status: int | None = None,
        full: bool = False,
    ) -> None:
        super().__init__(f"{what}: {remedy}")
        self.full = full
        self.what = what
        self.passing = passing
        self.pause = pause
        self.status = status


def _ignore(*_: object) -> None:
    """Do nothing with it."""


class KaggleClient:
    """The competition at Kaggle, as seen by the user whose credentials are found.

    Every method raises `KaggleError`, a `DigitsError`, when Kaggle can't be reached or refuses.
    """

    def __init__(
        self,
        say: Say = _ignore,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        retries: int = 4,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sign in with the first credentials that the `kaggle` package finds.

        `say` is told in one line of each call that is made again, up to `retries` times. The timeouts are in
        seconds and hold for each connection, and for each silence within an answer. What the package prints
        while it signs in is dropped, so keep progress bars for later.

        Raises DigitsError if there are no credentials, or Kaggle does not accept them or can't be reached.
        """
        self._say = say
        self._sleep = sleep
        self._clock = clock
        self._connection = _Connection(say, (connect_timeout, read_timeout), retries, sleep)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to Kaggle."""
        self._connection.close()

    def competition(self) -> Competition:
        """The competition's settings, and where the user stands in it."""
        found = self._connection.read("get_competition", competition_name=COMPETITION)
        return Competition(
            max_daily_submissions=found.max_daily_submissions,
            user_has_entered=found.user_has_entered,
            user_rank=found.user_rank or None,
            team_count=found.team_count,
            deadline=_utc(found.deadline) if found.deadline else None,
            submissions_disabled=found.submissions_disabled,
        )

    def submissions(self) -> list[Submission]:
        """All submissions of the user's team, newest first."""
        rows = self._connection.pages("list_submissions", competition_name=COMPETITION, page=1)
        found = {row.ref: _submission(row) for row in rows}
        return sorted(found.values(), key=lambda one: (one.date, one.ref), reverse=True)

    def submission(self, ref: int) -> Submission:
        """The submission with this number. Raises DigitsError if there is none."""
        return _submission(self._connection.read("get_submission", ref=ref))

    def find(self, message: str, *, patient: bool = False) -> Submission | None:
        """The newest submission with this message, or None.

        A submission can take some seconds to be listed. So where an earlier upload may have been cut short,
        be `patient`: then the list is read several times before the answer is None.
        """
        return self._look_for(message, frozenset(), LOOKS if patient else 1)

    def allowance(self) -> Allowance:
        """What is left of today's submissions."""
        return self._allowance(self.competition())

    def check_may_submit(self) -> Allowance:
        """What is left of today's submissions, at least one.

        Raises DigitsError if the user has not accepted the competition's rules, if it takes no submissions,
        or if none is left today.
        """
        competition = self.competition()
        if not competition.user_has_entered:
            raise _rules_not_accepted()
        if competition.submissions_disabled:
            raise KaggleError("The competition takes no submissions at the moment", f"see {PAGE}")
        allowance = self._allowance(competition)
        if allowance.left < 1:
            raise _used_up(allowance.resets_at)
        return allowance

    def leaderboard(self, around: int | None = None, rows: int = 20) -> list[LeaderboardRow]:
        """So many rows of the public leaderboard, with the rank `around` in the middle, else from the top."""
        start = 0 if around is None else max(0, around - 1 - rows // 2)
        places = enumerate(self._connection.pages("get_leaderboard", competition_name=COMPETITION), start=1)
        return [
            LeaderboardRow(rank, row.team_name, _score(row.score), _utc(row.submission_date))
            for rank, row in islice(places, start, start + rows)
        ]

    def submit(self, csv: Path, message: str, *, again: bool = False) -> Submission:
        """Submit a file exactly once, and return its submission, not yet scored.

        A submission is known by its message, which must be unique to the file. If there is one with this
        message already, it is returned and nothing is sent, unless `again`. When the answer to an upload is
        lost, the list of submissions is searched for it before anything is sent a second time.

        Where a process died or an error came while the answer was under way, there may be a submission that
        is not listed yet: whoever knows of such an attempt asks `find(message, patient=True)` first.

        Raises DigitsError if the file can't be read, or if there is no submission, or no knowing if there is.
        """
        if not message.strip():
            raise ValueError("a submission is known by its message, which is empty")
        try:
            content, modified = csv.read_bytes(), int(csv.stat().st_mtime)
        except OSError as error:
            raise DigitsError(f"{csv} can't be read ({error.strerror or error.errno}): write it anew") from error
        before = self.submissions()
        existing = _newest_named(message, before)
        if existing and not again:
            return existing
        known = frozenset(one.ref for one in before)
        token = self._connection.again(lambda: self._upload(csv.name, content, modified))
        return self._create_once(token, csv.name, message, known)

    def wait(
        self,
        ref: int,
        timeout: float = 900.0,
        poll: float = 5.0,
        tick: Callable[[Submission], object] = _ignore,
    ) -> Submission:
        """The submission as soon as it is scored or given up; as it is, pending, after `timeout` seconds.

        `tick` is called with the submission after every look; looks come `poll` seconds apart.
        """
        deadline = self._clock() + timeout
        while True:
            submission = self._perhaps_not_listed_yet(ref)
            tick(submission)
            if submission.done or self._clock() + poll > deadline:
                return submission
            self._sleep(poll)

    def download(self, folder: Path, progress: Progress = _ignore) -> Path:
        """Have the competition's data in `folder` as digit-recognizer.zip, checked, and return its path.

        A sound one that is there is kept. The file gets its name once it is whole and `check_archive` is
        content; until then its bytes are kept aside, and the next call goes on from them. `progress` is
        called with the bytes so far and their total, None if Kaggle does not say.

        Raises DigitsError if the file can't be had, is not what it should be, or can't be written.
        """
        target = folder / ARCHIVE
        with contextlib.suppress(DigitsError):
            check_archive(target)
            return target
        with _on_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        part = self._connection.again(lambda: self._fetch(folder, progress))
        with _on_disk(target):
            try:
                _check_archive(part, f"The {ARCHIVE} that came")
            except DigitsError:
                part.unlink()
                raise
            part.replace(target)
            for stale in folder.glob(f".{ARCHIVE}.*.part"):
                stale.unlink(missing_ok=True)
        return target

    @property
    def username(self) -> str:
        """The user whose credentials these are. Raises DigitsError where Kaggle did not say."""
        return self._connection.username

    def push(self, metadata: dict[str, Any], source: str, *, before: int | None = None) -> Pushed:
        """Save a new version of a kernel, which runs it, exactly once.

        `metadata` is what kernel-metadata.json has. Where an earlier attempt may have arrived, `before` is the version
        that there was before it: a newer one is taken for what it sent. When an answer is lost, Kaggle is asked for a
        newer version before anything is sent a second time.

        Raises DigitsError if Kaggle refuses it, or if there is no knowing whether it arrived.
        """
        ref = str(metadata["id"])
        known = self.kernel_version(ref)
        if before is not None:
            if known > before:
                return _pushed(ref, known)
            known = before
        attempt = 0
        while True:
            attempt += 1
            try:
                saved = self._connection.call("save_kernel", service="kernels", **_kernel_fields(metadata, source))
                self._connection.check_saved(ref, saved)
                return _pushed(ref, saved.version_number, saved.url)
            except KaggleError as error:
                trouble = error
            if not trouble.passing:
                raise trouble
            self._say(f"{trouble.what}; looking whether {ref} arrived")
            version = self._newer_version(ref, known, trouble)
            if version:
                return _pushed(ref, version)
            self._connection.pause_or_raise(trouble, attempt)

    def kernel_version(self, ref: str) -> int:
        """The number of the newest version of a kernel "owner/slug", 0 where there is none."""
        owner, slug = _parts_of(ref)
        try:
            found = self._connection.read("get_kernel", service="kernels", user_name=owner, kernel_slug=slug)
        except KaggleError as error:
            if error.status in (403, 404):  # what is not there is forbidden to everybody
                return 0
            raise
        if not found.metadata:
            raise _web_page()
        return int(found.metadata.current_version_number or 1)

    def session(self, ref: str) -> Session:
        """How the newest version of a kernel "owner/slug" is doing. Raises DigitsError where there is none."""
        found = self._read_kernel("get_kernel_session_status", ref)
        return Session(found.status.name, " ".join((found.failure_message or "").split()))

    def wait_for_kernel(self, ref: str, poll: float = 10.0, tick: Callable[[Session], object] = _ignore) -> Session:
        """The session of a kernel as soon as it is at its end; `tick` is called after every look.

        One that was pushed just now may not be known yet. Raises DigitsError where it stays so.
        """
        unknown = 0
        while True:
            try:
                session = self.session(ref)
            except KaggleError as error:
                unknown += 1
                if error.status not in (403, 404) or unknown >= LOOKS:
                    raise
                session = Session("QUEUED")
            tick(session)
            if session.done:
                return session
            self._sleep(poll)

    def outputs(self, ref: str) -> Outputs:
        """The files of a kernel "owner/slug" and its log. Raises DigitsError where there is no such kernel."""
        files: dict[str, str] = {}
        log, token, seen = "", "", {""}
        while True:
            answer = self._read_kernel("list_kernel_session_output", ref, page_size=PAGE_SIZE, page_token=token)
            files |= {one.file_name: one.url for one in answer.files or []}
            log = log or answer.log or ""
            token = answer.next_page_token or ""
            if token in seen:
                return Outputs(files, _log_text(log))
            seen.add(token)

    def fetch(self, url: str, path: Path) -> None:
        """Have what is at an address of `outputs` in a file, whole. Raises DigitsError where that can't be."""
        self._connection.again(lambda: self._fetch_file(url, path))

    def _fetch_file(self, url: str, path: Path) -> None:
        with contextlib.closing(self._connection.storage("GET", url, expect=(200,), stream=True)) as answer:
            total, held = _length(answer.headers), 0
            with _on_disk(path), path.open("wb") as file:
                for chunk in self._connection.chunks(answer):
                    file.write(chunk)
                    held += len(chunk)
        if total is not None and held != total:
            raise _cut_off()

    def _read_kernel(self, method: str, ref: str, **fields: Any) -> Any:
        owner, slug = _parts_of(ref)
        try:
            return self._connection.read(method, service="kernels", user_name=owner, kernel_slug=slug, **fields)
        except KaggleError as error:
            if error.status in (403, 404):
                raise KaggleError(
                    f"Kaggle has no kernel {ref}, or does not show it to you",
                    "correct its name, or make it with `digits kernel push`",
                    status=error.status,
                ) from None
            raise

    def _newer_version(self, ref: str, known: int, trouble: KaggleError) -> int | None:
        """The version that a push has made although its answer was lost, None if it has made none."""
        try:
            for look in range(LOOKS):
                if look:
                    self._sleep(2.0 ** (look - 1))
                version = self.kernel_version(ref)
                if version > known:
                    return version
        except KaggleError as blind:
            raise KaggleError(
                f"Whether {ref} arrived is not known ({trouble.what}, then {blind.what})",
                f"see whether it is at {KERNELS}/{ref} before you run the same command again",
                passing=blind.passing,
            ) from None
        return None

    def _perhaps_not_listed_yet(self, ref: int) -> Submission:
        """A submission that there is, even while Kaggle does not know it yet."""
        try:
            return self.submission(ref)
        except KaggleError as error:
            if error.status != 404:
                raise
            return _pending(ref)

    def _allowance(self, competition: Competition) -> Allowance:
        limit, tomorrow = competition.max_daily_submissions, _next_day()
        try:
            counts = self._connection.read("get_submission_limits", competition_name=COMPETITION)
        except KaggleError as error:
            if error.passing or error.status == 401:
                raise
            # There is no such call, in this client or at Kaggle. A submission with an error does not count.
            today = tomorrow - timedelta(days=1)
            used = sum(one.date >= today and one.status != "ERROR" for one in self.submissions())
            left = limit - used
        else:
            used, left = counts.num_today, counts.num_allowed_now
            if not counts.num_total:  # a user who is on no team yet is told 0 of 0
                left = max(left, limit)
        return Allowance(limit or used + left, used, max(left, 0), tomorrow)

    def _upload(self, name: str, content: bytes, modified: int) -> str:
        """Send the file's bytes, which makes no submission yet, and return the token to make one with."""
        slot = self._connection.call(
            "start_submission_upload",
            competition_name=COMPETITION,
            file_name=name,
            content_length=len(content),
            last_modified_epoch_seconds=modified,
        )
        if not slot.create_url:
            raise _web_page()
        self._connection.storage("PUT", slot.create_url, expect=(200, 201), data=content)
        return str(slot.token)

    def _create_once(self, token: str, name: str, message: str, known: frozenset[int]) -> Submission:
        """Make a submission of the uploaded bytes, just one though answers be lost."""
        attempt = 0
        while True:
            attempt += 1
            try:
                made = self._connection.call(
                    "create_submission",
                    competition_name=COMPETITION,
                    blob_file_tokens=token,
                    submission_description=message,
                )
                if made.ref:
                    return _pending(made.ref, message, name)
                trouble = self._connection.made_nothing(made.message)
            except KaggleError as error:
                trouble = error
            arrived = self._search_after(trouble, message, known)
            if arrived:
                return arrived
            self._connection.pause_or_raise(trouble, attempt)

    def _search_after(self, trouble: KaggleError, message: str, known: frozenset[int]) -> Submission | None:
        """The submission that was made although the answer said otherwise, or got lost."""
        refused = trouble.status is not None and not trouble.passing
        if not refused:
            self._say(f"{trouble.what}; looking whether the submission arrived")
        try:
            return self._look_for(message, known, looks=1 if refused else LOOKS)
        except KaggleError as blind:
            if refused:
                return None
            raise KaggleError(
                f"Whether the submission arrived is not known ({trouble.what}, then {blind.what})",
                "run the same command again, it looks for the submission before it sends anything",
            ) from None

    def _look_for(self, message: str, known: frozenset[int], looks: int) -> Submission | None:
        """The newest submission with this message that is not among the known ones."""
        for look in range(looks):
            if look:
                self._sleep(2.0 ** (look - 1))
            found = _newest_named(message, (one for one in self.submissions() if one.ref not in known))
            if found:
                return found
        return None

    def _fetch(self, folder: Path, progress: Progress) -> Path:
        """All of the archive's bytes, in a file of another name that grows where an earlier call stopped."""
        with contextlib.closing(self._connection.call("download_data_files", competition_name=COMPETITION)) as offer:
            part = folder / f".{ARCHIVE}.{_fingerprint(offer.headers)}.part"
            total = _length(offer.headers)
            held = _size(part) if offer.history and _version(offer.headers) else 0
            if held and held == total:
                return part
            with contextlib.closing(self._rest(offer, held) if held else offer) as answer:
                if answer is not offer and answer.status_code == 200:
                    held, total = 0, _length(answer.headers)
                elif answer is offer:
                    held = 0
                _receive(part, self._connection.chunks(answer), held, total, progress)
        return part

    def _rest(self, offer: Any, held: int) -> Any:
        """The bytes from `held` on; all of them if they are others by now or Kaggle can't do it."""
        answer = self._connection.storage(
            "GET",
            offer.url,
            expect=(200, 206, 416),
            headers={
                "Range": f"bytes={held}-",
                "If-Range": _version(offer.headers),
                "Accept-Encoding": "identity",
            },
            stream=True,
        )
        goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {held}-")
        if answer.status_code == 200 or (answer.status_code == 206 and goes_on):
            return answer
        answer.close()
        return offer


def check_archive(path: Path) -> None:
    """Raise DigitsError unless the file is a sound zip with the competition's CSVs, of a sane size."""
    if not path.exists():
        raise DigitsError(f"{path} is missing: get it with `digits data`, or from {PAGE}/data")
    _check_archive(path, str(path))


def _check_archive(path: Path, name: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, name)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError):
        damaged = "all of it"
    if damaged:
        raise DigitsError(f"{name} is no sound zip file ({damaged} is damaged): run this again to get it anew")


def _check_members(archive: zipfile.ZipFile, name: str) -> None:
    sizes = {PurePosixPath(member.filename).name: member.file_size for member in archive.infolist()}
    for member in MEMBERS:
        if not 0 < sizes.get(member, 0) <= LARGEST_MEMBER:
            found = f"{member} of {sizes[member]:,} bytes" if member in sizes else f"no {member}"
            raise DigitsError(f"{name} holds {found}: get the competition's zip from {PAGE}/data")


class _Connection:
    """Calls to Kaggle's competition service through the package: limited in time, repeated, explained."""

    def __init__(self, say: Say, timeout: tuple[float, float], retries: int, sleep: Callable[[float], object]) -> None:
        self._say = say
        self._timeout = timeout
        self._retries = retries
        self._sleep = sleep
        self._credentials = "these credentials"
        self._renewal = f"make a new token at {SETTINGS}/api"
        self._secrets: set[str] = set()
        self._username = ""
        self._client = self.again(self._sign_in)

    def close(self) -> None:
        self._client.http_client().__exit__(None, None, None)

    @property
    def username(self) -> str:
        """The user's name, as the package found it when it signed in."""
        if not self._username:
            raise KaggleError("Kaggle did not say whose credentials these are", "sign in again, or make a new token")
        return self._username

    def call(self, method: str, *, service: str = "competitions", **fields: Any) -> Any:
        """The answer to one call of a method of a service, with a request of these fields."""
        with self._explained():
            module, way = SERVICES[service]
            name = "".join(word.capitalize() for word in method.split("_"))
            request = getattr(importlib.import_module(module), f"Api{name}Request")()
            for field, value in fields.items():
                setattr(request, field, value)
            return getattr(operator.attrgetter(way)(self._client), method)(request)

    def read(self, method: str, **fields: Any) -> Any:
        """The answer to a call that only reads, made again while what ails it may pass."""
        return self.again(lambda: self.call(method, **fields))

    def pages(self, method: str, **fields: Any) -> Iterator[Any]:
        """The rows of a list, page by page, as far as they are asked for."""
        token = ""
        seen = {token}
        while True:
            answer = self.read(method, page_size=PAGE_SIZE, page_token=token, **fields)
            yield from answer.submissions
            token = answer.next_page_token
            if token in seen:
                return
            seen.add(token)
            fields.pop("page", None)  # the package names a page only where it has no token

    def storage(self, method: str, url: str, *, expect: tuple[int, ...], **options: Any) -> Any:
        """The answer of Kaggle's file storage, which takes no credentials but signed addresses."""
        with self._explained():
            import requests

            answer = requests.request(method, url, timeout=self._timeout, **options)
        if answer.status_code not in expect:
            answer.close()
            raise _storage_refused(answer)
        return answer

    def chunks(self, answer: Any) -> Iterator[bytes]:
        """The body of an answer, as it comes."""
        chunks = answer.iter_content(CHUNK)
        while True:
            with self._explained():
                chunk = next(chunks, b"")
            if not chunk:
                return
            yield chunk

    def again(self, call: Callable[[], Result]) -> Result:
        """What the call gives; it is made again after a pause while what ails it may pass."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return call()
            except KaggleError as error:
                self.pause_or_raise(error, attempt)

    def pause_or_raise(self, error: KaggleError, attempt: int) -> None:
        """Wait before the next attempt, longer each time; raise the error if there should be none."""
        pause = max(2.0 ** (attempt - 1), error.pause or 0.0)
        if not error.passing or attempt > self._retries or pause > LONGEST_PAUSE:
            raise error
        self._say(f"{error.what}; trying again in {_span(pause)} ({attempt} of {self._retries})")
        self._sleep(pause)

    def made_nothing(self, answer: str) -> KaggleError:
        """The error for a submission that Kaggle took with thanks and did not make."""
        return KaggleError(
            f"Kaggle took the file but made no submission of it ({self._quote(answer) or 'no reason given'})",
            f"see {PAGE}/submissions, and run this again if it is not there",
        )

    def check_saved(self, ref: str, saved: Any) -> None:
        """Raise KaggleError where a kernel was answered with thanks and yet refused."""
        if saved.error:
            full = re.search(r"session count|concurrent", saved.error, re.IGNORECASE)
            raise KaggleError(
                f"Kaggle did not take the kernel {ref} ({self._quote(saved.error)})",
                "wait until one of your kernels has ended, then run this again" if full else "mend what it names",
                full=bool(full),
                status=200,
            )
        if not saved.version_number:
            raise _web_page()
        if saved.invalid_competition_sources:
            raise KaggleError(
                f"The kernel {ref} was saved and has no data ({', '.join(saved.invalid_competition_sources)} refused)",
                f"accept the rules at {RULES}, then run this again",
                status=200,
            )

    def _sign_in(self) -> Any:
        """The package's client, with the credentials that the package chooses."""
        with self._explained():
            api = self._new_api()
        token, place = _token_in_reach()
        if token:
            self._name_credentials(f"the token in {place}", token)
        signed_in_before = _oauth_file().exists()
        try:
            with self._explained(signing_in=True), contextlib.redirect_stdout(io.StringIO()):
                api.authenticate()
                client = api.build_kaggle_client()
        except SystemExit:
            raise _no_credentials(api.config, signed_in_before) from None
        except KaggleError as error:
            if error.status in (400, 401, 403, 404):
                raise self._not_accepted() from None
            raise
        self._name_what_was_used(api)
        return client

    def _new_api(self) -> Any:
        """An API object of the package, changed to have limits on time and to leave stdout alone."""
        kaggle_api = _import_kaggle().KaggleApi
        connection = self

        class Api(kaggle_api):  # type: ignore[misc, valid-type]
            def build_kaggle_client(self) -> Any:
                return _with_timeout(super().build_kaggle_client(), connection._timeout)

            def get_response_processor(self) -> None:
                """Have none: the package's prints that there is a newer version."""

            def _introspect_token(self, access_token: str) -> Any:
                # The package would go on to other credentials, and still send this token with every call.
                username = super()._introspect_token(access_token)
                if not username:
                    raise connection._not_accepted()
                return username

        api = Api()
        api.args = [arg for arg in api.args if arg != "--verbose"]  # prints every request, token and all
        api.config_dir = str(_config_folder())
        api.config = str(_config_folder() / api.config_file)
        return api

    def _name_credentials(self, name: str, *secrets: str) -> None:
        """Know what to call the credentials, and what never to repeat, when Kaggle complains."""
        self._credentials = name
        self._renewal = f"make a new token at {SETTINGS}/api and put it there, or remove it"
        self._secrets.update(secret for secret in secrets if secret)

    def _name_what_was_used(self, api: Any) -> None:
        values = api.config_values
        self._username = str(values.get("username") or "")
        user, key, token = (str(values.get(name) or "") for name in ("username", "key", "token"))
        self._secrets.update(secret for secret in (key, token) if secret)
        if values.get("auth_method") == "LEGACY_API_KEY":
            place = "KAGGLE_USERNAME and KAGGLE_KEY" if os.environ.get("KAGGLE_KEY") else api.config
            self._name_credentials(f"the key in {place}", b64encode(f"{user}:{key}".encode()).decode())
        elif values.get("auth_method") == "OAUTH":
            self._name_credentials("the sign-in of `kaggle auth login`")
            self._renewal = "sign in again with `kaggle auth login`"

    def _not_accepted(self) -> KaggleError:
        return KaggleError(
            f"Kaggle does not accept {self._credentials}", f"{self._renewal}, then run this again", status=401
        )

    @contextlib.contextmanager
    def _explained(self, *, signing_in: bool = False) -> Iterator[None]:
        """Turn whatever a call through the package raises into a KaggleError.

        The cause is dropped: its text can hold signed addresses, even a token.
        """
        from requests import RequestException

        try:
            yield
        except RequestException as error:
            raise self._explain_request(error) from None
        except ImportError as error:
            raise KaggleError(
                f"The kaggle package can't be loaded ({error.name or 'a part of it'} is missing)",
                "install it with `make setup`",
            ) from None
        except UnicodeError:
            raise self._not_accepted() from None
        except json.JSONDecodeError:
            raise _web_page() from None
        except OSError as error:
            raise (_unreadable(error) if signing_in else _cut_off()) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise KaggleError(
                f"The answer of Kaggle can't be understood with kaggle {_version_of_kaggle()}",
                "install another version of it with `make setup` or `pip install --upgrade kaggle`",
            ) from None

    def _explain_request(self, error: Exception) -> KaggleError:
        from requests import exceptions

        match error:
            case exceptions.HTTPError(response=response) if response is not None:
                return self._explain_status(response)
            case exceptions.InvalidHeader():
                return self._not_accepted()
            case exceptions.JSONDecodeError() | exceptions.ContentDecodingError():
                return _web_page()
            case exceptions.InvalidURL() | exceptions.InvalidSchema() | exceptions.MissingSchema():
                return KaggleError(
                    "The address to call can't be used",
                    "correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or unset them",
                )
        return _explain_connection(error)

    def _explain_status(self, response: Any) -> KaggleError:
        status = int(response.status_code)
        with contextlib.closing(response):
            reason = self._quote(_reason(response))
        if response.history:
            return _storage_refused(response)
        if status == 401:
            return self._not_accepted()
        if status in (408, 429) or status >= 500:
            return _overloaded(status, _retry_after(response.headers))
        return _refused(status, reason)

    def _quote(self, text: str) -> str:
        """A text of Kaggle's in one line of bearable length, with no markup, signed address or secret."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = re.sub(r"\b(Bearer|Basic)\s+\S+|\bKGAT_\w+", "***", text)
        text = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", text)
        text = re.sub(r"(?is)<(style|script|head)\b.*?</\1>|<[^>]*>", " ", text)
        text = " ".join(text.split()).rstrip(".")
        return text if len(text) <= 200 else f"{text[:200]}..."


# The package: how it is loaded, and where it looks for credentials


@functools.cache
def _import_kaggle() -> Any:
    """The package's module `kaggle_api_extended`, without what `import kaggle` does besides.

    Importing the package signs in, which prints on stdout, calls Kaggle, and fails where HOME can't be used.
    So a bare package stands in for it while its module is imported. KAGGLE_CONFIG_DIR is set to a folder that
    exists, else the module makes one in HOME. VERBOSE would have it log all requests.
    """
    name = "kaggle.api.kaggle_api_extended"
    if "kaggle" in sys.modules:
        return importlib.import_module(name)
    spec = importlib.util.find_spec("kaggle")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("kaggle", name="kaggle")
    bare = types.ModuleType("kaggle")
    bare.__path__ = spec.submodule_search_locations
    bare.__spec__ = spec
    bare.__dict__["__version__"] = _version_of_kaggle()
    with _environment(KAGGLE_CONFIG_DIR=str(Path(__file__).parent), VERBOSE=None, VERBOSE_OUTPUT=None):
        sys.modules["kaggle"] = bare
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules["kaggle"]  # whoever imports it after us gets the real one


@contextlib.contextmanager
def _environment(**changes: str | None) -> Iterator[None]:
    """Other values of environment variables, for a while."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        _set_environment(changes)
        yield
    finally:
        _set_environment(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _version_of_kaggle() -> str:
    return importlib.metadata.version("kaggle")


def _with_timeout(client: Any, timeout: tuple[float, float]) -> Any:
    """The package's client, changed so that no call waits for ever."""
    session = client.http_client().__enter__()._session
    session.send = functools.partial(session.send, timeout=timeout)
    return client


def _config_folder() -> Path:
    """Where the package looks for kaggle.json; it settles that when it is imported, and makes the folder."""
    named = os.environ.get("KAGGLE_CONFIG_DIR")
    if named:
        return Path(named)
    old = Path("~/.kaggle").expanduser()
    if old.exists() or not sys.platform.startswith("linux"):
        return old
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()) / "kaggle"


def _oauth_file() -> Path:
    from kagglesdk import KaggleCredentials

    return Path(KaggleCredentials.DEFAULT_CREDENTIALS_FILE).expanduser()


def _token_in_reach() -> tuple[str, str]:
    """The token that the package is going to use, and what to call the place it is in."""
    from kagglesdk import get_access_token_from_env

    try:
        token, source = get_access_token_from_env()
    except (OSError, ValueError):
        return "", ""  # signing in meets the same error, and explains it
    return token or "", "~/.kaggle/access_token" if source == "access_token" else source or ""


# What goes wrong, and the remedy


def _explain_connection(error: BaseException) -> KaggleError:
    """The sentence for a call that never got an answer."""
    from requests import exceptions
    from urllib3.exceptions import ReadTimeoutError

    causes = tuple(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if caused_by(exceptions.ProxyError):
        what, remedy = "The proxy can't be reached", "correct HTTP_PROXY and HTTPS_PROXY, or unset them"
    elif caused_by(exceptions.SSLError):
        what = "The connection to Kaggle is not safe (its certificate does not check)"
        remedy = "see that the clock is right, and set REQUESTS_CA_BUNDLE if a proxy has its own certificates"
    elif caused_by(exceptions.ConnectTimeout):
        what, remedy = (
            "Kaggle does not take the connection",
            "see that the network works, then run this again",
        )
    elif caused_by(exceptions.Timeout, ReadTimeoutError):
        what, remedy = "Kaggle does not answer", "run this again in some minutes"
    elif caused_by(socket.gaierror):
        what = "The name of Kaggle's server can't be looked up (DNS)"
        remedy = "see that the network works, then run this again"
    elif caused_by(ConnectionRefusedError):
        what, remedy = (
            "The connection to Kaggle was refused",
            "see that no firewall forbids it, then run this again",
        )
    else:
        return _cut_off()
    return KaggleError(what, remedy, passing=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and all those that it wraps."""
    pending: list[object] = [error]
    seen: list[object] = []
    while pending:
        one = pending.pop()
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            yield one
            pending += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _reason(response: Any) -> str:
    """Why Kaggle refused, in its own words."""
    from requests import RequestException

    try:
        text = str(response.text)
        body = json.loads(text)
    except RequestException:
        return ""
    except ValueError:
        return text
    if not isinstance(body, dict):
        return text
    inner = body.get("error")
    return str((inner.get("message") if isinstance(inner, dict) else inner) or body.get("message") or "")


def _refused(status: int, reason: str) -> KaggleError:
    if status == 403 and "rules" in reason.lower():
        return _rules_not_accepted()
    if status == 403 and re.search(r"phone|verif", reason, re.IGNORECASE):
        what = "Kaggle wants your phone number verified first"
        remedy = f"do that at {SETTINGS}, then run this again"
    elif status == 403:
        what = f"Kaggle refuses this ({reason or 'no reason given'})"
        remedy = f"accept the rules at {RULES}, see that your phone is verified at {SETTINGS}, then run this again"
    elif status == 404:
        what = f"Kaggle does not know what was asked for ({reason or COMPETITION})"
        remedy = f"see whether {PAGE} opens in a browser, then run this again"
    elif status == 407:
        what = "The proxy wants a password"
        remedy = "put it into HTTPS_PROXY, as in http://user:password@host:port, then run this again"
    elif re.search(r"daily\s+submission|submission\s+(allowance|limit)", reason, re.IGNORECASE):
        return _used_up(_next_day())
    else:
        what = f"Kaggle refused the request ({status}, {reason or 'no reason given'})"
        remedy = "mend what it names, then run this again"
    return KaggleError(what, remedy, status=status)


def _overloaded(status: int, pause: float | None) -> KaggleError:
    what = "Kaggle answered 429 (too many requests)" if status == 429 else f"Kaggle answered {status}"
    remedy = f"run this again in {_span(pause) if pause else 'some minutes'}"
    return KaggleError(what, remedy, passing=True, pause=pause, status=status)


def _storage_refused(response: Any) -> KaggleError:
    """Signed addresses expire and each attempt gets a new one, so any refusal may pass."""
    status, pause = response.status_code, _retry_after(response.headers)
    remedy = f"run this again in {_span(pause) if pause else 'some minutes'}"
    return KaggleError(f"Kaggle's file storage answered {status}", remedy, passing=True, pause=pause, status=status)


def _rules_not_accepted() -> KaggleError:
    return KaggleError(
        "You have not accepted the competition's rules yet",
        f"join it at {RULES}, then run this again",
        status=403,
    )


def _used_up(until: datetime) -> KaggleError:
    return KaggleError(
        "Today's submissions are used up",
        f"submit again after 00:00 UTC, in {_span((until - _now()).total_seconds())}",
        status=400,
    )


def _web_page() -> KaggleError:
    return KaggleError(
        "Something else than Kaggle's answer came, such as a web page",
        f"see that {PAGE} opens in a browser and the network asks for no login, then run this again",
        passing=True,
    )


def _cut_off() -> KaggleError:
    return KaggleError("The connection to Kaggle was cut off", "run this again", passing=True)


def _unreadable(error: OSError) -> KaggleError:
    return KaggleError(
        f"The Kaggle credentials can't be read ({error.strerror or error.errno})",
        "see that the files in ~/.kaggle, and the one that KAGGLE_API_TOKEN may name, can be read, and that "
        "~/.kaggle/credentials.json of `kaggle auth login` can be written",
    )


def _no_credentials(config: str, signed_in_before: bool) -> KaggleError:
    if signed_in_before:
        return KaggleError(
            "The sign-in of `kaggle auth login` has ended",
            "sign in again with `kaggle auth login`",
            status=401,
        )
    what = "There are no Kaggle credentials"
    if Path(config).exists():
        what = f"{config} holds no username and key that can be read"
    return KaggleError(
        what,
        f"open {SETTINGS}/api, press 'Generate New Token', save the token to ~/.kaggle/access_token or set "
        "KAGGLE_API_TOKEN to it, then run this again (`make demo` needs none)",
    )


def _retry_after(headers: Any) -> float | None:
    """The seconds that Kaggle wants a caller to wait, which it gives as a number or as a date."""
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(value) - _now()).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


# From Kaggle's words to ours


def _now() -> datetime:
    return datetime.now(UTC)


def _next_day() -> datetime:
    """The next 00:00 UTC."""
    return _now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _span(seconds: float) -> str:
    """A length of time as people say it: 4 s, 12 min, 3 h 5 min."""
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _utc(naive: datetime | None) -> datetime:
    """Kaggle's dates are UTC and don't say so. One that it leaves out is the epoch."""
    return naive.replace(tzinfo=UTC) if naive else datetime.fromtimestamp(0, UTC)


def _score(text: str | None) -> float | None:
    """Kaggle's scores are texts, empty until they are known."""
    try:
        score = float(text or "")
    except ValueError:
        return None
    return score if math.isfinite(score) else None


def _submission(row: Any) -> Submission:
    return Submission(
        ref=row.ref,
        date=_utc(row.date),
        description=row.description or "",
        file_name=row.file_name or "",
        status=row.status.name,
        public_score=_score(row.public_score),
        error_description=" ".join((row.error_description or "").split()),
        submitted_by=row.submitted_by or "",
    )


def _pending(ref: int, message: str = "", name: str = "") -> Submission:
    """A submission of which no more is known than that it was made."""
    return Submission(ref, _now(), message, name, "PENDING", None, "", "")


def _newest_named(message: str, newest_first: Iterable[Submission]) -> Submission | None:
    """The newest with this message, though Kaggle may have changed its white space."""
    words = message.split()
    return next((one for one in newest_first if one.description.split() == words), None)


# Kernels


def _parts_of(ref: str) -> tuple[str, str]:
    """Owner and slug of "owner/slug"."""
    owner, _, slug = ref.partition("/")
    return owner, slug


def _pushed(ref: str, version: int, url: str = "") -> Pushed:
    return Pushed(ref, version, url or f"{KERNELS}/{ref}")


def _kernel_fields(metadata: dict[str, Any], source: str) -> dict[str, Any]:
    """The fields of a request to save a kernel, from what kernel-metadata.json has."""
    if metadata["kernel_type"] == "notebook":  # whose cells may be lists of lines, and Kaggle wants one text
        notebook = json.loads(source)
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
        source = json.dumps(notebook)
    return {
        "slug": metadata["id"],
        "new_title": metadata["title"],
        "text": source,
        "language": metadata["language"],
        "kernel_type": metadata["kernel_type"],
        "is_private": metadata["is_private"],
        "enable_gpu": metadata["enable_gpu"],
        "enable_tpu": metadata["enable_tpu"],
        "enable_internet": metadata["enable_internet"],
        "competition_data_sources": metadata["competition_sources"],
    }


def _log_text(log: str) -> str:
    """What a kernel printed; Kaggle has it as a list of pieces, each with its stream and time."""
    try:
        return "".join(str(piece["data"]) for piece in json.loads(log))
    except (ValueError, TypeError, KeyError):
        return log


# The archive on its way


def _receive(part: Path, chunks: Iterator[bytes], held: int, total: int | None, progress: Progress) -> None:
    """Write what comes to the file, behind the bytes held already, and see that nothing is missing."""
    first = next(chunks, b"")
    if not held and not first.startswith(b"PK"):
        raise _web_page()
    with _on_disk(part), part.open("ab" if held else "wb") as file:
        for chunk in chain([first], chunks):
            file.write(chunk)
            held += len(chunk)
            progress(held, total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and held < total:
        raise _cut_off()


def _version(headers: Any) -> str | None:
    """What tells one version of the archive from another, and lets the rest of it be asked for."""
    tag = headers.get("ETag")
    found = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    return str(found) if found else None


def _fingerprint(headers: Any) -> str:
    """A name for this version of the archive, so that bytes of two versions never meet in one file."""
    return hashlib.sha256(f"{_version(headers)} {_length(headers)}".encode()).hexdigest()[:12]


def _length(headers: Any) -> int | None:
    """The bytes of the body, None if that is not said or if they are packed for the journey."""
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and not headers.get("Content-Encoding") else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    """Turn what a disk raises into a DigitsError about `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error.errno
        raise DigitsError(
            f"{path} can't be written ({reason}): see that the disk has room and the folder is writable, "
            "then run this again"
        ) from error
