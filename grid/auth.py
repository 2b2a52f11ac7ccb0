"""Ray's token: found where it is configured, and Ray told to use it before it is imported. Imports no Ray.

With RAY_AUTH_MODE unset a client of Ray sends no token even where one is configured, and is refused without a word
about it; so whoever has a token means to use it.
"""

import os
from pathlib import Path

from grid.errors import BadInput

DEFAULT = Path("~/.ray/auth_token")
"""Where Ray puts a token that it makes, and looks for one when told to use any."""
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def use_token(file: Path | None = None) -> None:
    """Have Ray send the token of `file`, else of the environment, if there is one; called before Ray is imported.

    Raises BadInput for a token or a file that cannot be used.
    """
    if file is not None:
        os.environ[TOKEN_PATH] = str(file.absolute())
        os.environ.pop(TOKEN, None)
    token = the_token()
    if token is not None:
        os.environ.setdefault(MODE, "token")
    if os.environ.get(TOKEN) and token is not None:
        os.environ[TOKEN] = token  # for Ray, which takes it as it stands


def the_token() -> str | None:
    """The configured token, without blanks around it; None where none is. Raises BadInput for one that cannot be."""
    if os.environ.get(TOKEN):
        return _sound(os.environ[TOKEN], TOKEN)
    path = os.environ.get(TOKEN_PATH)
    if not path and os.environ.get(MODE) == "token" and DEFAULT.expanduser().exists():
        path = str(DEFAULT.expanduser())
    if not path:
        return None
    try:
        token = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadInput(f"the token file {path} cannot be read ({reason}); name the file with --token-file.") from error
    return _sound(token, f"the token file {path}")


def _sound(text: str, where: str) -> str:
    """The token in a text. Raises BadInput, without repeating it, for one that no header can hold."""
    token = text.strip()
    if not token:
        raise BadInput(f"{where} is empty; `ray get-auth-token --generate` makes a token.")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise BadInput(
            f"{where} holds no token: one is a single word of ASCII characters; "
            "`ray get-auth-token --generate` makes a token."
        )
    return token
