"""Builds everything the mesh runs on: Python environment, generated code, pinned tools, chaincode.

Runs on the system's Python before anything is installed, so it uses the standard library only.
Entry point: `run.py`.
"""
