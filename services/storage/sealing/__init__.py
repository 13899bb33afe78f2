"""Contents in clear become sealed envelopes under a patient's writer key."""
