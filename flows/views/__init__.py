"""What people are shown of a study: values, and those as words, markdown and pictures."""
