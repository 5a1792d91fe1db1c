"""Reading partitions: what is asked for, what came, and where they begin and end."""
