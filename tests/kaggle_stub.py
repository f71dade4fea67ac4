"""A stub of Kaggle's API on 127.0.0.1, for tests that run the real `kaggle` package over HTTP.

Ask for the fixture `kaggle_stub`: the API is up, the package in this process calls it, HOME is an empty
folder, and the environment holds a token that the stub accepts. A test sets the stub's state and reads it:

    def test_submit(kaggle_stub):
        kaggle_stub.competition["userHasEntered"] = False    # a field of the API's answer, by its name there
        kaggle_stub.fail("CreateSubmission", answer(503))    # the next such call fails; fail(..., times=3)
        kaggle_stub.fail("ListSubmissions", drop(), hang())  # the next one is dropped, the one after it hangs
        kaggle_stub.script = iter([None, drop(after=True)])  # or call by call, whatever is called
        ...
        assert [row["description"] for row in kaggle_stub.submissions] == ["m"]  # oldest first
        assert kaggle_stub.calls("CreateSubmission") == 1

A kernel that is pushed runs at once and ends as `kaggle_stub.run_kernel(ref, version, body)` says, after it was
looked at `polls_until_ended` times:

    kaggle_stub.run_kernel = lambda ref, version, body: Ending("ERROR", log="Traceback ...")
    kaggle_stub.push_error = "Maximum batch CPU session count of 5 reached."  # in an answer with status 200

A fault strikes before the call has its effect; with `after=True` it strikes after it, so that the answer is
lost. Calls are named by the API's method, with PUT and GET for the file storage. `kaggle_stub.reasons[name]`
makes Kaggle refuse a call for good, as it does when a phone number is not verified.

A command in another process reaches the same stub with `kaggle_stub.environment()`:

    subprocess.run([sys.executable, "-m", "digits.cli", "submit"], env=kaggle_stub.environment())

Every error repeats the credentials that came with the request, so that whatever quotes Kaggle's words without
care is caught: nothing of `kaggle_stub.secrets` may turn up in any output.
"""

import io
import json
import os
import re
import socket
import struct
import threading
import zipfile
from base64 import b64encode
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import pytest

TOKEN = "KGAT_0123456789abcdef0123456789abcdef"
USERNAME, KEY = "tester", "00112233445566778899aabbccddeeff"
REFRESH_TOKEN, OAUTH_TOKEN = "refresh-5f4dcc3b5aa765d6", "oauth-7c6a180b36896a0a"
RULES = "You must accept this competition's rules before you'll be able to download files"
PHONE = "You must verify your phone number before you can submit to this competition"
ALLOWANCE = "Your team has used its daily Submission allowance (5) today, please try again tomorrow UTC"

Way = Literal["answer", "drop", "reset", "hang", "slow", "truncate"]


@dataclass(frozen=True)
class Fault:
    """One way for a call to go wrong."""

    way: Way
    after: bool = False
    status: int = 200
    message: str = ""
    page: str | None = None
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    keep: float = 0.5
    with_length: bool = True

    def __str__(self) -> str:
        what = [self.way, str(self.status) if self.way == "answer" else "", self.message, self.page or ""]
        return " ".join(part for part in [*what, "late" if self.after else ""] if part)


def answer(status: int, message: str = "", *, after: bool = False, **headers: str) -> Fault:
    """An answer with this HTTP status, and a reason where Kaggle puts it; headers as in `Retry_After="7"`."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Fault("answer", after, status, message, headers=pairs)


def html(status: int = 200, *, after: bool = False) -> Fault:
    """A web page in place of the answer, as a proxy or a login page sends it."""
    page = "<!doctype html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>"
    return Fault("answer", after, status, page=page, content_type="text/html")


def garbage(page: str, *, after: bool = False) -> Fault:
    """A 200 with this body, said to be JSON."""
    return Fault("answer", after, 200, page=page)


def drop(*, after: bool = False) -> Fault:
    """The connection closed without an answer."""
    return Fault("drop", after)


def reset(*, after: bool = False) -> Fault:
    """The connection reset without an answer."""
    return Fault("reset", after)


def hang(*, after: bool = False) -> Fault:
    """No answer and no end, until the caller gives up."""
    return Fault("hang", after)


def slow(seconds: float) -> Fault:
    """The right answer, late."""
    return Fault("slow", seconds=seconds)


def truncate(keep: float = 0.5, *, with_length: bool = True) -> Fault:
    """The right answer, cut off after this share of its body, with or without a Content-Length that tells."""
    return Fault("truncate", keep=keep, with_length=with_length)


@dataclass(frozen=True)
class Call:
    """One request that reached the stub."""

    name: str
    body: Any
    headers: dict[str, str]


@dataclass(frozen=True)
class Ending:
    """How a kernel ends, and what it leaves: its files by name, and what it printed."""

    status: str = "COMPLETE"
    files: dict[str, bytes] = field(default_factory=dict)
    log: str = ""
    failure: str = ""


@dataclass
class _Reply:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def make_archive(**members: str) -> bytes:
    """A zip as Kaggle serves the competition's data, with these texts, by the name without its .csv."""
    texts = {
        "train": "label,pixel0\n" + "".join(f"{row % 10},{row * row % 251}\n" for row in range(20_000)),
        "test": "pixel0\n" + "".join(f"{row * row % 241}\n" for row in range(2000)),
        "sample_submission": "ImageId,Label\n" + "".join(f"{row},0\n" for row in range(1, 2001)),
    } | members
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in texts.items():
            archive.writestr(f"{name}.csv", text)
    return file.getvalue()


class KaggleStub:
    """Kaggle's state, and the server that shows it."""

    def __init__(self) -> None:
        self.archive = make_archive()
        self.archive_tag = '"v1"'
        self.tokens = {TOKEN, OAUTH_TOKEN}
        self.keys = {USERNAME: KEY}
        self.refresh_tokens = {REFRESH_TOKEN}
        self.competition: dict[str, Any] = {
            "id": 3004,
            "deadline": "2030-01-01T00:00:00Z",
            "maxDailySubmissions": 5,
            "userHasEntered": True,
            "userRank": 7,
            "teamCount": 1300,
        }
        self.leaderboard: list[dict[str, Any]] = [
            {
                "teamId": place,
                "teamName": f"team {place}",
                "submissionDate": "2026-11-20T10:00:00.5Z",
                "score": f"{1 - place / 10000:.5f}",
            }
            for place in range(1, 51)
        ]
        self.submissions: list[dict[str, Any]] = []
        self.counts_submissions = True  # whether Kaggle has the call GetSubmissionLimits
        self.largest_page = 200
        self.score: str | None = "0.98765"  # None: the submissions stay pending
        self.error = ""  # a reason makes the submissions end as ERROR
        self.polls_until_scored = 2
        self.lists_until_listed = 0
        self.polls_until_known = 0
        self.keeps_white_space = True
        self.redirects_downloads = True
        self.resumes_downloads = True
        self.version = ""  # the newest version of the package, which Kaggle announces with every answer
        self.run_kernel: Callable[[str, int, Any], Ending] = lambda ref, version, body: Ending()
        self.push_error = ""
        self.kernels: dict[str, list[tuple[Any, Ending]]] = {}  # the versions of each, by "owner/name"
        self.kernels_at_once = 100
        self.polls_until_ended = 2
        self.reasons: dict[str, tuple[int, str]] = {}
        self.script: Iterator[Fault | None] = iter(())
        self.log: list[Call] = []
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._uploads: dict[str, bytes] = {}
        self._polls: dict[int, int] = defaultdict(int)
        self._looks: dict[str, int] = defaultdict(int)
        self._hidden: dict[int, int] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler, self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)
        self._thread.start()

    def fail(self, name: str, *faults: Fault, times: int = 1) -> None:
        """Have the next calls of this name go wrong, one fault each."""
        self._faults[name].extend(faults * times)

    def calls(self, name: str) -> int:
        """How many requests of this name have come."""
        return sum(call.name == name for call in self.log)

    @property
    def names(self) -> list[str]:
        """The names of the requests that have come."""
        return [call.name for call in self.log]

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nothing may ever print."""
        basic = b64encode(f"{USERNAME}:{KEY}".encode()).decode()
        return (TOKEN, KEY, REFRESH_TOKEN, OAUTH_TOKEN, basic, "X-Signature")

    def uploaded(self, token: str) -> bytes:
        """The bytes that were put to an upload's address."""
        return self._uploads[token]

    def add_submission(self, description: str, **fields: Any) -> int:
        """Have a submission that somebody made before."""
        ref = 46_000_000 + len(self.submissions)
        self.submissions.append(
            {
                "ref": ref,
                "totalBytes": 1106,
                "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),
                "description": description,
                "fileName": "submission.csv",
                "status": "COMPLETE",
                "publicScore": "0.98765",
                "privateScore": "",
                "errorDescription": "",
                "submittedBy": USERNAME,
                "teamName": "T",
            }
            | fields
        )
        return ref

    def environment(self) -> dict[str, str]:
        """The environment in which a command in another process meets this stub, signed in."""
        kept = {name: value for name, value in os.environ.items() if not _of_kaggle_or_proxy(name)}
        return kept | {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "HTTP_PROXY": self.url,
            "KAGGLE_API_TOKEN": TOKEN,
        }

    def close(self) -> None:
        """Take the server down, and let those go that hang."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # What the server asks

    def next_fault(self, name: str) -> Fault | None:
        with self._lock:
            scripted = next(self.script, None)
            return scripted or (self._faults[name].popleft() if self._faults[name] else None)

    def wait_until_over(self, seconds: float | None = None) -> None:
        self._over.wait(seconds)

    def accepts(self, credentials: str) -> bool:
        basic = {b64encode(f"{user}:{key}".encode()).decode() for user, key in self.keys.items()}
        return credentials in {f"Bearer {token}" for token in self.tokens} | {f"Basic {one}" for one in basic}

    def reply(self, name: str, body: Any, headers: dict[str, str], base: str) -> _Reply:
        """The right answer to a call, and its effect."""
        with self._lock:
            self.log.append(Call(name, body, headers))
            if name in self.reasons:
                return refusal(*self.reasons[name], headers)
            if name == "PUT":
                return _Reply(200, b"")
            if name == "GET":
                return self._data(headers)
            if name == "OUTPUT":
                return self._output(headers[":path"])
            if name == "IntrospectToken":
                return self._introspect(body["token"], headers)
            if name == "GenerateAccessToken":
                return self._renew(body["refreshToken"], headers)
            if not self.accepts(headers.get("authorization", "")):
                return refusal(401, "Unauthenticated", headers)
            if "Kernel" in name:
                return self._kernel_call(name, body, headers, base)
            if body.get("competitionName", "digit-recognizer") != "digit-recognizer":
                return refusal(404, "Competition not found", headers)
            return self._competition_call(name, body, headers, base)

    def store(self, token: str, content: bytes) -> None:
        with self._lock:
            self._uploads[token] = content

    def _competition_call(self, name: str, body: Any, headers: dict[str, str], base: str) -> _Reply:
        entered = self.competition.get("userHasEntered")
        if name in ("DownloadDataFiles", "StartSubmissionUpload") and not entered:
            return refusal(403, RULES, headers)
        match name:
            case "GetCompetition":
                return _json(self.competition)
            case "ListSubmissions":
                return _json(self._page(body, "submissions", self._listed()))
            case "GetLeaderboard":
                return _json(self._page(body, "submissions", self.leaderboard))
            case "GetSubmission":
                return self._poll(body.get("ref", 0), headers)
            case "GetSubmissionLimits" if self.counts_submissions:
                return _json(self._limits())
            case "StartSubmissionUpload":
                token = f"tok-{len(self._uploads) + 1}"
                self._uploads[token] = b""
                return _json({"token": token, "createUrl": f"{base}/upload/{token}?X-Signature=c2lnbmVk"})
            case "CreateSubmission":
                return self._create(body, headers)
            case "DownloadDataFiles" if self.redirects_downloads:
                address = f"{base}/storage/digit-recognizer.zip?X-Signature=c2lnbmVk"
                return _Reply(302, b"", headers={"Location": address})
            case "DownloadDataFiles":
                return self._data({})
        return refusal(404, f"No such method {name}", headers)

    def _kernel_call(self, name: str, body: Any, headers: dict[str, str], base: str) -> _Reply:
        if name == "SaveKernel":
            return self._save_kernel(body, base)
        ref = f"{body.get('userName')}/{body.get('kernelSlug')}"
        if ref not in self.kernels:
            return refusal(403, "Permission 'kernels.get' was denied", headers)
        versions = self.kernels[ref]
        ending = versions[-1][1]
        match name:
            case "GetKernel":
                return _json({"metadata": {"ref": ref, "currentVersionNumber": len(versions)}, "blob": {}})
            case "GetKernelSessionStatus":
                self._looks[ref] += 1
                if not self._ended(ref):
                    return _json({"status": "QUEUED" if self._looks[ref] == 1 else "RUNNING"})
                return _json({"status": ending.status, "failureMessage": ending.failure or None})
            case "ListKernelSessionOutput":
                prefix = f"{base}/output/{ref}/{len(versions)}"
                files = [
                    {"fileName": file, "url": f"{prefix}/{file}?X-Signature=c2lnbmVk"} for file in sorted(ending.files)
                ]
                pieces = [
                    {"stream_name": "stdout", "time": float(at), "data": line}
                    for at, line in enumerate(ending.log.splitlines(keepends=True))
                ]
                return _json(self._page(body, "files", files) | {"log": json.dumps(pieces)})
        return refusal(404, f"No such method {name}", headers)

    def _ended(self, ref: str) -> bool:
        return self._looks[ref] > self.polls_until_ended

    def _save_kernel(self, body: Any, base: str) -> _Reply:
        ref = body["slug"]
        busy = sum(not self._ended(other) for other in self.kernels if other != ref)
        if self.push_error or busy >= self.kernels_at_once:
            return _json({"error": self.push_error or f"Maximum batch CPU session count of {busy} reached."})
        versions = self.kernels.setdefault(ref, [])
        versions.append((body, self.run_kernel(ref, len(versions) + 1, body)))
        self._looks[ref] = 0
        url = f"{base}/code/{ref}"
        return _json({"ref": f"/code/{ref}", "url": url, "versionNumber": len(versions), "kernelId": 99})

    def _output(self, path: str) -> _Reply:
        owner, slug, version, name = path.partition("/output/")[2].partition("?")[0].split("/", 3)
        content = self.kernels[f"{owner}/{slug}"][int(version) - 1][1].files[unquote(name)]
        return _Reply(200, content, "application/octet-stream")

    def _introspect(self, token: str, headers: dict[str, str]) -> _Reply:
        if token in self.tokens:
            return _json({"active": True, "username": USERNAME, "userId": 1})
        return refusal(400, f"Token {token} is not valid", headers)

    def _renew(self, refresh_token: str, headers: dict[str, str]) -> _Reply:
        if refresh_token in self.refresh_tokens:
            return _json({"token": OAUTH_TOKEN, "expiresIn": 43200, "userName": USERNAME, "userId": 1})
        return refusal(401, f"Refresh token {refresh_token} is not valid", headers)

    def _listed(self) -> list[dict[str, Any]]:
        shown = []
        for row in reversed(self.submissions):
            if self._hidden.get(row["ref"], 0) > 0:
                self._hidden[row["ref"]] -= 1
            else:
                shown.append(_shown(row))
        return shown

    def _page(self, body: Any, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        start = int(body.get("pageToken") or 0)
        end = start + min(body.get("pageSize", 20), self.largest_page)
        return {name: rows[start:end], "nextPageToken": str(end) if end < len(rows) else ""}

    def _poll(self, ref: int, headers: dict[str, str]) -> _Reply:
        row = next((row for row in self.submissions if row["ref"] == ref), None)
        self._polls[ref] += 1
        if row is None or self._polls[ref] <= self.polls_until_known:
            return refusal(404, "Submission not found", headers)
        if row.get("status") is None and self._polls[ref] > self.polls_until_scored:
            if self.error:
                row |= {"status": "ERROR", "errorDescription": self.error}
            elif self.score is not None:
                row |= {"status": "COMPLETE", "publicScore": self.score}
        return _json(_shown(row))

    def _limits(self) -> dict[str, Any]:
        allowed = self.competition["maxDailySubmissions"]
        today = self._today()
        return {
            "numToday": today,
            "numTotal": len(self.submissions),
            "numAllowedNow": max(0, allowed - today),
        }

    def _today(self) -> int:
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        return sum(row["date"].startswith(day) and row.get("status") != "ERROR" for row in self.submissions)

    def _create(self, body: Any, headers: dict[str, str]) -> _Reply:
        if not self._uploads.get(body["blobFileTokens"]):
            return refusal(400, "Nothing was uploaded under this token", headers)
        if self._today() >= self.competition["maxDailySubmissions"]:
            return refusal(400, ALLOWANCE, headers)
        message = body.get("submissionDescription", "")
        if not self.keeps_white_space:
            message = re.sub(r"\s+", " ", message).strip()
        ref = self.add_submission(message, status=None, publicScore="", blob=body["blobFileTokens"])
        self._hidden[ref] = self.lists_until_listed
        return _json({"message": "Successfully submitted to Digit Recognizer", "ref": ref})

    def _data(self, headers: dict[str, str]) -> _Reply:
        content = self.archive
        common = {
            "Last-Modified": format_datetime(datetime(2019, 12, 11, tzinfo=UTC), usegmt=True),
            "ETag": self.archive_tag,
            "Accept-Ranges": "bytes",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if not wanted or not self.resumes_downloads or headers.get("if-range") != self.archive_tag:
            return _Reply(200, content, "application/zip", common)
        start = int(wanted[1])
        if start >= len(content):
            return _Reply(416, b"", headers={"Content-Range": f"bytes */{len(content)}"})
        where = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return _Reply(206, content[start:], "application/zip", common | {"Content-Range": where})


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A submission as Kaggle sends it, without the fields that are at their default."""
    return {name: value for name, value in row.items() if value is not None}


def refusal(status: int, message: str, headers: dict[str, str]) -> _Reply:
    """An error as Kaggle words it, with the credentials of the request in it."""
    told = f"{message} (credentials: {headers.get('authorization', 'none')})"
    return _json({"error": {"code": status, "message": told}}, status)


def _json(value: Any, status: int = 200) -> _Reply:
    return _Reply(status, json.dumps(value).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type["_Handler"], stub: KaggleStub) -> None:
        self.stub = stub
        super().__init__(address, handler)

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a caller that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Keep stderr clean."""

    def do_POST(self) -> None:
        self._serve(self.path.rsplit("/", 1)[-1])

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_GET(self) -> None:
        self._serve("OUTPUT" if "/output/" in self.path else "GET")

    def _serve(self, name: str) -> None:
        stub = self.server.stub
        headers = {key.lower(): value for key, value in self.headers.items()} | {":path": self.path}
        content = self.rfile.read(int(headers.get("content-length", 0)))
        fault = stub.next_fault(name)
        if fault is None or fault.after or fault.way in ("slow", "truncate"):
            body = json.loads(content) if name not in ("PUT", "GET", "OUTPUT") else None
            reply = stub.reply(name, body, headers, f"http://{headers['host']}")
            if name == "PUT" and reply.status == 200:
                stub.store(self.path.split("?")[0].rsplit("/", 1)[-1], content)
        else:
            stub.log.append(Call(name, None, headers))
            reply = _Reply(500, b"")
        if fault is None:
            self._send(reply)
        else:
            self._fail(fault, reply, headers)

    def _fail(self, fault: Fault, reply: _Reply, headers: dict[str, str]) -> None:
        match fault.way:
            case "answer":
                told = fault.message or f"Error {fault.status}"
                content = refusal(fault.status, told, headers).body if fault.page is None else fault.page.encode()
                self._send(_Reply(fault.status, content, fault.content_type, dict(fault.headers)))
            case "drop":
                self.close_connection = True
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            case "hang":
                self.server.stub.wait_until_over()
                self.close_connection = True
            case "slow":
                self.server.stub.wait_until_over(fault.seconds)
                self._send(reply)
            case "truncate" if reply.status in (200, 206):
                self._send(reply, keep=fault.keep, with_length=fault.with_length)
                self.close_connection = True
            case "truncate":  # a redirect has no body to cut
                self._send(reply)

    def _send(self, reply: _Reply, *, keep: float = 1.0, with_length: bool = True) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.server.stub.version:
            self.send_header("X-Kaggle-ApiVersion", self.server.stub.version)
        self.send_header("Content-Type", reply.content_type)
        if with_length:
            self.send_header("Content-Length", str(len(reply.body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body[: int(len(reply.body) * keep)])


def _of_kaggle_or_proxy(name: str) -> bool:
    return name.upper().startswith(("KAGGLE_", "VERBOSE")) or name.upper().endswith("_PROXY")


@contextmanager
def stub_in_this_process(home: Path) -> Iterator[KaggleStub]:
    """A stub that the package in this process calls, signed in, with `home` as HOME."""
    import kagglesdk.kaggle_env as kaggle_env

    stub = KaggleStub()
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if _of_kaggle_or_proxy(name) or name in ("XDG_CONFIG_HOME", "NETRC", "REQUESTS_CA_BUNDLE"):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("KAGGLE_API_TOKEN", TOKEN)
        patch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, stub.url)
        try:
            yield stub
        finally:
            stub.close()


@pytest.fixture
def kaggle_stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KaggleStub]:
    """Kaggle's API on loopback, where the package in this process finds it; see the module's docstring."""
    with stub_in_this_process(tmp_path_factory.mktemp("home")) as stub:
        yield stub
