"""What a server is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .store import Address


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        run: a folder written by `recsys-dl train`, or a link to one.
        host, port: where to listen; port 0 takes a free one.
        batch_ms: the most that a request waits for others, in milliseconds; one that is alone does not wait.
        batch_size: requests answered at once, at most.
        queue_size: requests that wait or are answered at a time; beyond, 429.
        timeout: seconds for receiving a request, and for answering one.
        body_kb: kilobytes of a request's body, at most.
        max_k: length of a list, at most.
        rate: requests a second of one client, on average; None for no limit. Twice as many may come at once.
        proxies: addresses of proxies whose X-Forwarded-For is believed.
        beside: another run of the same log, variant b; `run` is variant a. None for one run.
        share: of the users whose requests variant b answers, by a hash of their id; 0 where it is only looked at.
        store: folder for histories and feedback, None for RUN.serving; or the database that several servers share.
        watch: seconds between looks at whether `run` has changed; 0 for never.
        learn: seconds between updates of policies from feedback; 0 for never.
        settle: seconds after which a shown item without feedback is a reward of 0, for policies; None for never.
        traces: address of an OpenTelemetry collector that gets a span of each request; None for none.
        token: what clients must send; None for no check.
    """

    run: Path
    host: str = "127.0.0.1"
    port: int = 8000
    batch_ms: float = 2.0
    batch_size: int = 64
    queue_size: int = 512
    timeout: float = 10.0
    body_kb: int = 256
    max_k: int = 1000
    rate: float | None = None
    proxies: tuple[str, ...] = ()
    beside: Path | None = None
    share: float = 0.0
    store: Path | Address | None = None
    watch: float = 5.0
    learn: float = 5.0
    settle: float | None = None
    traces: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def store_folder(self) -> Path:
        """Where histories and feedback are, or the copy of a shared store's feedback."""
        return self.store if isinstance(self.store, Path) else Path(f"{str(self.run).rstrip('/')}.serving")
