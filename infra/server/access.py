"""Who may talk to the local stack: the secrets of its services, and what its clients are told of them."""

import random
import shlex
from collections.abc import Mapping

from infra.environment import is_free_port
from infra.server import keys
from infra.server.prefect_api import PrefectApi
from infra.settings import Settings
from infra.stored import read_word

FILES_PORTS = range(20_000, 32_000)
"""Below the ports that systems lend to outgoing connections, so that a port stays free while nobody serves there."""


class StackError(RuntimeError):
    """A part of the stack does not run; the message says why and what to do."""


def auth_string(config: Settings) -> str | None:
    """Return the ``name:password`` that a Prefect server asks for; None for a server elsewhere that asks for nothing.

    Raises:
        StackError: The settings of server and clients do not agree.
        KeyFileError: The local stack's own secret cannot be kept.
    """
    client, server = config.prefect_auth, config.prefect_server_auth
    if config.prefect_api_url is not None:
        return None if client is None else client.get_secret_value()
    if client is None and server is not None:
        raise StackError(
            "PREFECT_SERVER_API_AUTH_STRING is set and PREFECT_API_AUTH_STRING is not, so that no client could log in: "
            "set PREFECT_API_AUTH_STRING to the same text, or unset both and the stack makes its own"
        )
    if client is not None and server is not None and client != server:
        raise StackError(
            "PREFECT_API_AUTH_STRING and PREFECT_SERVER_API_AUTH_STRING differ, so that no client could log in: "
            "set both to the same text, or unset both and the stack makes its own"
        )
    return keys.key(config.state, keys.PREFECT_AUTH) if client is None else client.get_secret_value()


def check_login(config: Settings, api: PrefectApi, *, is_own: bool) -> None:
    """Require that a server accepts the authentication string, before anything waits in vain.

    Args:
        api: API of the server, which is healthy.
        is_own: Whether the local stack has started it.

    Raises:
        StackError: The server does not accept the string.
    """
    if api.is_accepted():
        return
    if config.prefect_auth is not None:
        reason = "does not accept PREFECT_API_AUTH_STRING: set it to what that server was started with"
        raise StackError(f"the Prefect server at {api.url} {reason}" + (", or 'make down' first" if is_own else ""))
    if is_own:
        raise StackError(
            f"the Prefect server at {api.url} was started with another authentication string than that in "
            f"{keys.key_file(config.state, keys.PREFECT_AUTH)}: set PREFECT_API_AUTH_STRING to it, "
            "or 'make down' and start again"
        )
    raise StackError(
        f"the Prefect server at {api.url} asks for authentication: set PREFECT_API_AUTH_STRING to what its "
        "PREFECT_SERVER_API_AUTH_STRING says"
    )


def exports(config: Settings, environment: Mapping[str, str]) -> list[str]:
    """Return lines for a shell that set an environment; secrets are read from their files when the lines are run."""
    files = {"INFINITY_FILES_URL": keys.FILES_TOKEN}
    if config.prefect_auth is None:
        files["PREFECT_API_AUTH_STRING"] = keys.PREFECT_AUTH
    lines = []
    for name, value in environment.items():
        if (file := files.get(name)) is not None:
            plain = value.removesuffix(keys.key(config.state, file))
            path = shlex.quote(str(keys.key_file(config.state, file)))
            lines.append(f'export {name}={shlex.quote(plain) if plain else ""}"$(cat {path})"')
        elif name != "PREFECT_API_AUTH_STRING":  # the user's own is in the shell already
            lines.append(f"export {name}={shlex.quote(value)}")
    return lines


def files_port(config: Settings) -> int:
    """Return the file server's port: that of the setting, or of the last start; at the first start a free one.

    Raises:
        StackError: Another program has the port.
    """
    memory = keys.private_folder(config.state.resolve() / "stack") / "files-port"
    remembered = read_word(memory) if memory.exists() else ""
    if remembered and not (remembered.isdecimal() and len(remembered) < 6 and 0 < int(remembered) < 2**16):
        raise StackError(f"{memory}: expected the port of the file server, found {remembered!r:.80}; delete the file")
    port = config.files_port or (int(remembered) if remembered else None)
    if port is None:
        port = next(port for port in random.sample(FILES_PORTS, len(FILES_PORTS)) if is_free_port(port))
    elif not is_free_port(port):
        raise StackError(
            f"port {port} of the file server, where links in earlier run pages point, is taken by another program: "
            "stop that program, or set INFINITY_FILES_PORT to another port (those links then lead nowhere)"
        )
    memory.write_text(f"{port}\n", "utf-8")
    return port
