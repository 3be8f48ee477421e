"""A server of a run."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from recsys_dl.threads import limit_threads

if TYPE_CHECKING:
    from recsys_dl.serving.store import Address

NEEDED = ("fastapi", "uvicorn", "prometheus_client")
LOCAL = ("127.0.0.1", "::1", "localhost")


def store_of(setting: str) -> Path | Address:
    """Return the folder or the server that `store` names, with its password from the environment if the URL has none."""
    from recsys_dl.serving.store import PASSWORD, Address, is_url

    return Address.of(setting).with_password(os.environ.get(PASSWORD)) if is_url(setting) else Path(setting)


def serve(config: DictConfig) -> None:
    """Answer requests until the process is stopped."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ImportError(f"serving needs {', '.join(missing)}: pip install 'recsys_dl[serve]'")
    limit_threads(config.threads, in_requests=True)
    from recsys_dl.serving import Settings
    from recsys_dl.serving import serve as answer

    token = os.environ.get("RECSYS_DL_TOKEN")
    if token is not None and not (token.isascii() and token.strip() == token != ""):
        raise ValueError(
            "RECSYS_DL_TOKEN must be ASCII text without spaces around it; unset it for a server without a token"
        )
    if token is None and config.host not in LOCAL:
        print(f"anyone who reaches {config.host} may ask and send feedback: set RECSYS_DL_TOKEN", file=sys.stderr)
    own = {name: config[name] for name in ("host", "port", "batch_ms", "batch_size", "queue_size", "timeout")}
    own |= {name: config[name] for name in ("body_kb", "max_k", "rate", "watch", "share", "learn", "settle", "traces")}
    store = None if config.store is None else store_of(str(config.store))
    beside = None if config.beside is None else Path(config.beside)
    if config.share and beside is None:
        raise ValueError(
            f"share is of the users that a second run answers: give it, beside=RUN; got {config.share} alone"
        )
    answer(
        Settings(run=Path(config.run), beside=beside, store=store, proxies=tuple(config.proxies), token=token, **own)
    )
