"""The config: models, the loader with its line-accurate errors, and the YAML that ships."""
