"""The controller of a study: its loop, and the places where its attempts run."""
