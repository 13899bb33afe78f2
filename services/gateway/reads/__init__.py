"""A chart out: decided on the channel, opened by storage, told to its reader."""
