"""How the mesh is watched: catalogue of metrics, objectives, dashboards, a real Prometheus over a network.

make observe           Prometheus over the laptop network, every panel and alert evaluated and shown
make observe-docs      write docs/metrics.md, the rules of the objectives and the dashboards anew
"""
