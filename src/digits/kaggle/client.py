"""The competition and its kernels at Kaggle, as a user sees them."""

import contextlib
import json
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Self

from digits.errors import DigitsError
from digits.kaggle import COMPETITION, KERNELS, PAGE
from digits.kaggle.answers import (
    Allowance,
    Competition,
    LeaderboardRow,
    Outputs,
    Pushed,
    Session,
    Submission,
    log_text,
    newest_named,
    pending,
    pushed,
    score_of,
    submission_of,
)
from digits.kaggle.archive import (
    ARCHIVE,
    Progress,
    check_archive,
    fingerprint,
    length_of,
    on_disk,
    receive,
    size_of,
    version_of,
)
from digits.kaggle.clock import next_day, utc
from digits.kaggle.connection import PAGE_SIZE, Connection, Say
from digits.kaggle.errors import KaggleError, cut_off, rules_not_accepted, used_up, web_page

LOOKS = 5  # times that the list of submissions is read before a lost one counts as not arrived


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
        self._connection = Connection(say, (connect_timeout, read_timeout), retries, sleep)

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
            deadline=utc(found.deadline) if found.deadline else None,
            submissions_disabled=found.submissions_disabled,
        )

    def submissions(self) -> list[Submission]:
        """All submissions of the user's team, newest first."""
        rows = self._connection.pages("list_submissions", competition_name=COMPETITION, page=1)
        found = {row.ref: submission_of(row) for row in rows}
        return sorted(found.values(), key=lambda one: (one.date, one.ref), reverse=True)

    def submission(self, ref: int) -> Submission:
        """The submission with this number. Raises DigitsError if there is none."""
        return submission_of(self._connection.read("get_submission", ref=ref))

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
            raise rules_not_accepted()
        if competition.submissions_disabled:
            raise KaggleError("The competition takes no submissions at the moment", f"see {PAGE}")
        allowance = self._allowance(competition)
        if allowance.left < 1:
            raise used_up(allowance.resets_at)
        return allowance

    def leaderboard(self, around: int | None = None, rows: int = 20) -> list[LeaderboardRow]:
        """So many rows of the public leaderboard, with the rank `around` in the middle, else from the top."""
        start = 0 if around is None else max(0, around - 1 - rows // 2)
        places = enumerate(self._connection.pages("get_leaderboard", competition_name=COMPETITION), start=1)
        return [
            LeaderboardRow(rank, row.team_name, score_of(row.score), utc(row.submission_date))
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
        existing = newest_named(message, before)
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
        with on_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        part = self._connection.again(lambda: self._fetch(folder, progress))
        with on_disk(target):
            try:
                check_archive(part, f"The {ARCHIVE} that came")
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
                return pushed(ref, known)
            known = before
        attempt = 0
        while True:
            attempt += 1
            try:
                saved = self._connection.call("save_kernel", service="kernels", **_kernel_fields(metadata, source))
                self._connection.check_saved(ref, saved)
                return pushed(ref, saved.version_number, saved.url)
            except KaggleError as error:
                trouble = error
            if not trouble.passing:
                raise trouble
            self._say(f"{trouble.what}; looking whether {ref} arrived")
            version = self._newer_version(ref, known, trouble)
            if version:
                return pushed(ref, version)
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
            raise web_page()
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
                return Outputs(files, log_text(log))
            seen.add(token)

    def fetch(self, url: str, path: Path) -> None:
        """Have what is at an address of `outputs` in a file, whole. Raises DigitsError where that can't be."""
        self._connection.again(lambda: self._fetch_file(url, path))

    def _fetch_file(self, url: str, path: Path) -> None:
        with contextlib.closing(self._connection.storage("GET", url, expect=(200,), stream=True)) as answer:
            total, held = length_of(answer.headers), 0
            with on_disk(path), path.open("wb") as file:
                for chunk in self._connection.chunks(answer):
                    file.write(chunk)
                    held += len(chunk)
        if total is not None and held != total:
            raise cut_off()

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
            return pending(ref)

    def _allowance(self, competition: Competition) -> Allowance:
        limit, tomorrow = competition.max_daily_submissions, next_day()
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
            raise web_page()
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
                    return pending(made.ref, message, name)
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
            found = newest_named(message, (one for one in self.submissions() if one.ref not in known))
            if found:
                return found
        return None

    def _fetch(self, folder: Path, progress: Progress) -> Path:
        """All of the archive's bytes, in a file of another name that grows where an earlier call stopped."""
        with contextlib.closing(self._connection.call("download_data_files", competition_name=COMPETITION)) as offer:
            part = folder / f".{ARCHIVE}.{fingerprint(offer.headers)}.part"
            total = length_of(offer.headers)
            held = size_of(part) if offer.history and version_of(offer.headers) else 0
            if held and held == total:
                return part
            with contextlib.closing(self._rest(offer, held) if held else offer) as answer:
                if answer is not offer and answer.status_code == 200:
                    held, total = 0, length_of(answer.headers)
                elif answer is offer:
                    held = 0
                receive(part, self._connection.chunks(answer), held, total, progress)
        return part

    def _rest(self, offer: Any, held: int) -> Any:
        """The bytes from `held` on; all of them if they are others by now or Kaggle can't do it."""
        answer = self._connection.storage(
            "GET",
            offer.url,
            expect=(200, 206, 416),
            headers={
                "Range": f"bytes={held}-",
                "If-Range": version_of(offer.headers),
                "Accept-Encoding": "identity",
            },
            stream=True,
        )
        goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {held}-")
        if answer.status_code == 200 or (answer.status_code == 206 and goes_on):
            return answer
        answer.close()
        return offer


def _parts_of(ref: str) -> tuple[str, str]:
    """Owner and slug of "owner/slug"."""
    owner, _, slug = ref.partition("/")
    return owner, slug


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
