"""Benchmarks: `python -m benchmarks` measures CPU per span beside a collector in Rust; see README.md."""
