"""What goes wrong with Kaggle, and the remedy: a sentence for each way to fail."""

import email.utils
import json
import math
import re
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from digits.errors import DigitsError
from digits.kaggle import COMPETITION, PAGE, RULES, SETTINGS
from digits.kaggle.clock import next_day, now, span


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


def explain_connection(error: BaseException) -> KaggleError:
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
        return cut_off()
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


def reason_of(response: Any) -> str:
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


def refused(status: int, reason: str) -> KaggleError:
    """Kaggle's answer is an HTTP status that says no, for a reason in its words, which may be empty."""
    if status == 403 and "rules" in reason.lower():
        return rules_not_accepted()
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
        return used_up(next_day())
    else:
        what = f"Kaggle refused the request ({status}, {reason or 'no reason given'})"
        remedy = "mend what it names, then run this again"
    return KaggleError(what, remedy, status=status)


def overloaded(status: int, pause: float | None) -> KaggleError:
    """Kaggle can't answer now, but may after a pause, in seconds if it says so."""
    what = "Kaggle answered 429 (too many requests)" if status == 429 else f"Kaggle answered {status}"
    remedy = f"run this again in {span(pause) if pause else 'some minutes'}"
    return KaggleError(what, remedy, passing=True, pause=pause, status=status)


def storage_refused(response: Any) -> KaggleError:
    """Signed addresses expire and each attempt gets a new one, so any refusal may pass."""
    status, pause = response.status_code, retry_after(response.headers)
    remedy = f"run this again in {span(pause) if pause else 'some minutes'}"
    return KaggleError(f"Kaggle's file storage answered {status}", remedy, passing=True, pause=pause, status=status)


def rules_not_accepted() -> KaggleError:
    """The user has not joined the competition."""
    return KaggleError(
        "You have not accepted the competition's rules yet",
        f"join it at {RULES}, then run this again",
        status=403,
    )


def used_up(until: datetime) -> KaggleError:
    """No submission is left before that time, which is UTC."""
    return KaggleError(
        "Today's submissions are used up",
        f"submit again after 00:00 UTC, in {span((until - now()).total_seconds())}",
        status=400,
    )


def web_page() -> KaggleError:
    """Somebody else answered, such as a hotel's network."""
    return KaggleError(
        "Something else than Kaggle's answer came, such as a web page",
        f"see that {PAGE} opens in a browser and the network asks for no login, then run this again",
        passing=True,
    )


def cut_off() -> KaggleError:
    """The connection ended before the answer did."""
    return KaggleError("The connection to Kaggle was cut off", "run this again", passing=True)


def unreadable(error: OSError) -> KaggleError:
    """A file of credentials can't be read or written."""
    return KaggleError(
        f"The Kaggle credentials can't be read ({error.strerror or error.errno})",
        "see that the files in ~/.kaggle, and the one that KAGGLE_API_TOKEN may name, can be read, and that "
        "~/.kaggle/credentials.json of `kaggle auth login` can be written",
    )


def no_credentials(config: str, signed_in_before: bool) -> KaggleError:
    """There is nothing to sign in with; `config` is where kaggle.json would be, or is and can't be used."""
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


def retry_after(headers: Any) -> float | None:
    """The seconds that Kaggle wants a caller to wait, which it gives as a number or as a date."""
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(value) - now()).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
