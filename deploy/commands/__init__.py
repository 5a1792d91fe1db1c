"""The everyday commands, one module for each noun. Each imports its client when it runs, not when it is named."""
