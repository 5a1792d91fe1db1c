"""A group on Faust: the only room that knows it. Each class that replaces a part of theirs names it."""
