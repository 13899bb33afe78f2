"""The services of one member: identity, ledger, storage, gateway and notify, and the runtime they share."""
