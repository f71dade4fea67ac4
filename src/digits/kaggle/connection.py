"""Calls to Kaggle through the `kaggle` package: signed in, limited in time, repeated and explained."""

import contextlib
import importlib
import io
import json
import operator
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from digits.kaggle import PAGE, RULES, SETTINGS, package
from digits.kaggle.clock import span
from digits.kaggle.errors import (
    KaggleError,
    cut_off,
    explain_connection,
    no_credentials,
    overloaded,
    reason_of,
    refused,
    retry_after,
    storage_refused,
    unreadable,
    web_page,
)

CHUNK = 1 << 14  # bytes; a connection that breaks loses the chunk that it broke in
PAGE_SIZE = 200  # rows a page, the most that Kaggle gives
LONGEST_PAUSE = 60.0  # seconds; whoever has to wait longer is better told so than kept waiting
# Where the package has its calls: the module of a service's requests, and the way to its client.
SERVICES = {
    "competitions": ("kagglesdk.competitions.types.competition_api_service", "competitions.competition_api_client"),
    "kernels": ("kagglesdk.kernels.types.kernels_api_service", "kernels.kernels_api_client"),
}
Say = Callable[[str], object]
Result = TypeVar("Result")


class Connection:
    """Calls to Kaggle's services through the package: limited in time, repeated, explained."""

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
        """Close the package's connections."""
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
            raise storage_refused(answer)
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
        self._say(f"{error.what}; trying again in {span(pause)} ({attempt} of {self._retries})")
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
            raise web_page()
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
        token, place = package.token_in_reach()
        if token:
            self._name_credentials(f"the token in {place}", token)
        signed_in_before = package.oauth_file().exists()
        try:
            with self._explained(signing_in=True), contextlib.redirect_stdout(io.StringIO()):
                api.authenticate()
                client = api.build_kaggle_client()
        except SystemExit:
            raise no_credentials(api.config, signed_in_before) from None
        except KaggleError as error:
            if error.status in (400, 401, 403, 404):
                raise self._not_accepted() from None
            raise
        self._name_what_was_used(api)
        return client

    def _new_api(self) -> Any:
        """An API object of the package, changed to have limits on time and to leave stdout alone."""
        kaggle_api = package.import_kaggle().KaggleApi
        connection = self

        class Api(kaggle_api):  # type: ignore[misc, valid-type]
            def build_kaggle_client(self) -> Any:
                return package.with_timeout(super().build_kaggle_client(), connection._timeout)

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
        api.config_dir = str(package.config_folder())
        api.config = str(package.config_folder() / api.config_file)
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
            raise web_page() from None
        except OSError as error:
            raise (unreadable(error) if signing_in else cut_off()) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise KaggleError(
                f"The answer of Kaggle can't be understood with kaggle {package.version_of_kaggle()}",
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
                return web_page()
            case exceptions.InvalidURL() | exceptions.InvalidSchema() | exceptions.MissingSchema():
                return KaggleError(
                    "The address to call can't be used",
                    "correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or unset them",
                )
        return explain_connection(error)

    def _explain_status(self, response: Any) -> KaggleError:
        status = int(response.status_code)
        with contextlib.closing(response):
            reason = self._quote(reason_of(response))
        if response.history:
            return storage_refused(response)
        if status == 401:
            return self._not_accepted()
        if status in (408, 429) or status >= 500:
            return overloaded(status, retry_after(response.headers))
        return refused(status, reason)

    def _quote(self, text: str) -> str:
        """A text of Kaggle's in one line of bearable length, with no markup, signed address or secret."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = re.sub(r"\b(Bearer|Basic)\s+\S+|\bKGAT_\w+", "***", text)
        text = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", text)
        text = re.sub(r"(?is)<(style|script|head)\b.*?</\1>|<[^>]*>", " ", text)
        text = " ".join(text.split()).rstrip(".")
        return text if len(text) <= 200 else f"{text[:200]}..."
