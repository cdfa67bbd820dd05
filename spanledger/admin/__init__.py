"""The admin port: health, metrics, status, and SQL over the embedded store."""
