"""What storage asks the channel, through the own ledger service or at the own peer."""
