"""A study from outside, by its store alone: looked at, fetched from, told what to do."""
