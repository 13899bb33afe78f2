"""Kubernetes: what is derived for deploy/k8s, what runs inside pods, the proof on a real API server."""
