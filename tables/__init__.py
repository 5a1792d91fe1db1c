"""State: serdes, stores, changelogs, and the tables and windows made of them."""
