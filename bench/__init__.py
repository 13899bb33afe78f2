"""What CBMDHI is measured by: `make bench` and its sisters. Each row is a file; results lie in `results/`."""
