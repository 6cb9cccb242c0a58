"""Storage that fails for a while, and what opens it, which shows nowhere."""

import errno
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")
TRANSIENT = (TimeoutError, ConnectionError, InterruptedError)
# Those of packages that may not be installed, by name; s3fs gives what it does not know as EIO.
TRANSIENT_NAMES = {
    "aiohttp.client_exceptions.ClientConnectionError",
    "aiohttp.client_exceptions.ClientPayloadError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.HTTPClientError",
    "botocore.parsers.ResponseParserError",
    "http.client.IncompleteRead",
    "obstore.exceptions.GenericError",
    "urllib3.exceptions.HTTPError",
}
# Packages that have one error for everything tell apart by words, those of the AWS SDK here.
TRANSIENT_WORDS = {
    "icechunk.IcechunkError": ("dispatch failure", "timed out", "timeout", "SlowDown", "ServiceUnavailable")
}
REFUSALS = {
    "obstore.exceptions.PermissionDeniedError",
    "obstore.exceptions.UnauthenticatedError",
    "botocore.exceptions.NoCredentialsError",
}
REFUSAL_WORDS = {
    "icechunk.IcechunkError": ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Unauthorized")
}
TRANSIENT_NUMBERS = {
    getattr(errno, name)
    for name in ("EAGAIN", "EBUSY", "EIO", "EREMOTEIO", "ESTALE", "ENETDOWN", "ENETUNREACH", "EHOSTUNREACH")
    if hasattr(errno, name)
}


class StorageError(OSError):
    """Storage that did not answer, or did not take what was to be written: another try may succeed."""


class NotEntrustedError(ValueError):
    """A process lacks what opens a store: it never travels in a task."""


def is_transient(error: BaseException) -> bool:
    """Whether storage failed in a way that may pass: no answer, a lost connection, too many requests."""
    if isinstance(error, TRANSIENT) or (isinstance(error, OSError) and error.errno in TRANSIENT_NUMBERS):
        return True
    return is_one_of(error, TRANSIENT_NAMES, TRANSIENT_WORDS)


def is_refusal(error: BaseException) -> bool:
    """Whether storage did answer, and did not give what was asked for: rights or credentials lack, most often."""
    return isinstance(error, OSError) or is_one_of(error, REFUSALS, REFUSAL_WORDS)


def is_one_of(error: BaseException, names: Collection[str], words: Mapping[str, Sequence[str]]) -> bool:
    """Whether an error is of a class of these names, or of one that is told by these words in it."""
    for kind in type(error).__mro__:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in names or any(word in str(error) for word in words.get(name, ())):
            return True
    return False


def patiently(attempt: Callable[[], T], what: str, tries: int = 4, done: str = "read") -> T:
    """What `attempt` returns, tried again after growing pauses while storage does not answer.

    Raises
    ------
    StorageError
        If the last try fails like those before.
    """
    for number in range(tries):
        try:
            return attempt()
        except Exception as error:
            if not is_transient(error):
                raise
            if number == tries - 1:
                raise StorageError(
                    f"{what} could not be {done} in {tries} tries ({type(error).__name__}: {error}). Try again "
                    "when the storage answers."
                ) from error
            time.sleep(0.1 * 4**number)
    raise AssertionError("unreachable")


# --- what no task, file or message may hold ----------------------------------------------------------------------

_present: "WeakValueDictionary[str, Entrusted]" = WeakValueDictionary()


class Entrusted:
    """A value that shows nowhere: neither printed nor pickled, but as a reference that stands for it where it is.

    It is in the process that made it, and in those that its `parcel` was delivered to.
    """

    def __init__(self, value: Any, reference: str = "") -> None:
        self._value, self.reference = value, reference or uuid.uuid4().hex
        _present[self.reference] = self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reference[:8]})"

    def __reduce__(self) -> tuple[Any, ...]:
        return recall, (self.reference,)

    @property
    def value(self) -> Any:
        """The value itself; NotEntrustedError if it is not in this process."""
        if self._value is None:
            raise NotEntrustedError(
                "the storage options, or the store object, of the data are not in this process: they travel with fits, "
                "scores and predictions that gmmdask runs, never with tasks, lazy arrays or estimators. Run those here "
                "(scheduler='threads'), or give a URL alone and the credentials by the environment of all workers."
            )
        return self._value

    @property
    def parcel(self) -> "Parcel":
        return Parcel(self)


class Parcel:
    """Brings an entrusted value to another process, where the value is as long as the parcel is. No task holds one."""

    def __init__(self, held: Entrusted) -> None:
        self.held, self.reference = held, held.reference

    def __reduce__(self) -> tuple[Any, ...]:
        return unpacked, (self.reference, self.held.value)


def recall(reference: str) -> Entrusted:
    """The entrusted value of this process, or one that is empty."""
    found = _present.get(reference)
    if found is None:
        found = Entrusted(None, reference)
    return found


def unpacked(reference: str, value: Any) -> Parcel:
    held = recall(reference)
    held._value = value
    return Parcel(held)
