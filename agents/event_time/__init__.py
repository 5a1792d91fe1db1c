"""Event time: clocks, whose is which, watermarks on their way, and what steps that keep time have in common."""
