"""Objects: S3 and folders, and the bounded range cache in front of them."""
