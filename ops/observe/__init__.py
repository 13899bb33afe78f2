"""How the mesh is watched: catalogue of metrics, objectives, dashboards, a Prometheus over a network.

make observe-docs      write docs/metrics.md, the rules of the objectives and the dashboards anew
make observe           bench/observe: what every panel and alert shows under load
"""
