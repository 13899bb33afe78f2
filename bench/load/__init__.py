"""The load tool: signed records at a given rate, and a check afterwards that every receipt stands."""
