"""Who is calling: tokens, client certificates, delegations, and what all gateways share about them."""
