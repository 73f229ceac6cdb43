"""Files over HTTP: placeholders, signed URLs, ranges, and serving them."""
