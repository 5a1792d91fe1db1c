"""A group on Faust and aiokafka: the only room that knows them. Each class that replaces a part of theirs names it."""
