"""Whether this storage holds the keys that the channel has registered for its member."""

from __future__ import annotations

from services.storage.channel.ledger import Ledger


class KeyRegistration:
    """Compares the keys of this storage with the member's document on the channel."""

    def __init__(
        self, own_msp: str, register: Ledger, vault_public_key: bytes, signing_public_key: bytes
    ) -> None:
        self._own_msp = own_msp
        self._register = register
        self._vault_public_key = vault_public_key
        self._signing_public_key = signing_public_key

    async def check(self) -> str | None:
        """For readiness. Raises MeshError."""
        member = (await self._register.consortium()).members.get(self._own_msp)
        if member is None:
            return f"{self._own_msp} is not a member on the channel; have it admitted, or correct msp_id"
        if member.vault_public_key != self._vault_public_key:
            return "vault_key_file is not the key that the channel knows of this member; give back that file"
        if member.storage_signing_key != self._signing_public_key:
            return "storage_signing_key_file is not the key that the channel has for this member"
        return None
