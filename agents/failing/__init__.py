"""Records that fail: policies as frozen values, going on behind such records, and what becomes of them."""
