"""The Dashboard of a cluster, asked by plain HTTP before Ray's own client is. Imports no Ray."""

import http.client
import ssl
import urllib.error
import urllib.request

from grid.auth import the_token
from grid.errors import BadInput

ANSWER_S = 10.0
MOST_ANSWER_BYTES = 50_000_000


def check_dashboard(address: str) -> None:
    """Raises BadInput where no Dashboard answers at `address`, or none that takes our token."""
    if b"ray_version" not in answer(address, "/api/version"):
        raise BadInput(f"{address} is no Ray Dashboard: its port is 8265 unless the cluster says otherwise.")


def answer(address: str, path: str) -> bytes:
    """What the Dashboard answers to a GET. Raises BadInput where none does, or does not take our token."""
    request = urllib.request.Request(f"{address}{path}")  # noqa: S310 - http or https, `jobs_address` saw to it
    token = the_token()
    if token is not None:
        request.add_unredirected_header("Authorization", f"Bearer {token}")  # not for whom it may name
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as told:  # noqa: S310
            content: bytes = told.read(MOST_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            moved = (error.url or address).removesuffix(path).partition("?")[0]
            raise BadInput(_refusal(address, moved, error.code, token is not None)) from error
    except http.client.HTTPException as error:
        raise BadInput(
            f"{address} is no Ray Dashboard (it does not speak HTTP): its port is 8265 unless the cluster says "
            "otherwise, and 6379 is that of `grid run --address HOST:6379`."
        ) from error
    except (OSError, ValueError) as error:  # the text of the latter may repeat the header with the token
        reason = getattr(error, "reason", error) if isinstance(error, OSError) else type(error).__name__
        raise BadInput(_unreached(address, reason)) from error
    return content


def _unreached(address: str, reason: object) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {address} is not trusted ({reason.verify_message.rstrip('.')}): give the name that it "
            "is made out to, and in SSL_CERT_FILE the file of the authority that signed it."
        )
    return f"{address} cannot be reached ({reason}): give the address of the cluster's Dashboard, http://HOST:8265."


def _refusal(address: str, moved: str, code: int, had_token: bool) -> str:
    if moved != address:
        return f"{address} sends us on to {moved}, which was not given the token: give that address."
    if code in (401, 403) and had_token:
        return f"{address} does not accept the token: take the one that the cluster's nodes have (--token-file)."
    if code in (401, 403):
        return f"{address} asks for a token: name its file with --token-file, or set RAY_AUTH_TOKEN_PATH."
    return f"{address} is no Ray Dashboard (it answers {code}): its port is 8265 unless the cluster says otherwise."
