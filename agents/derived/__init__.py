"""Tables made from tables: joined, joined by a foreign key, grouped anew, with a history."""
