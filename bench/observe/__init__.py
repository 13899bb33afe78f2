"""`make observe`: Prometheus over the laptop network under load; every panel and alert evaluated, drawn."""
