"""A real Kubernetes control plane and node on this machine, and the mesh as its pods."""
