"""The member's own services, as far as the gateway asks them."""
