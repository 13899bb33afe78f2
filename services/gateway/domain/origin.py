"""Under which addresses callers reach REST. Configured: what a request says of it (`Host`, `Forwarded`,
`X-Forwarded-*`) is its sender's word, and behind a proxy not even the address that the caller called.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origins:
    """`https://host[:port][/prefix]` each; the proxy takes the prefix away.

    public  the one that answers name
    others  further ways in, such as one that does not lead over the proxy
    """

    public: str
    others: tuple[str, ...] = ()

    def url(self, path: str) -> str:
        """Of a resource here, as callers know it. `path` begins with a slash."""
        return self.public + path

    def urls(self, path: str) -> tuple[str, ...]:
        """As which a caller may have called this path."""
        return tuple(origin + path for origin in (self.public, *self.others))
