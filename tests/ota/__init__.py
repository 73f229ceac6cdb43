"""OTA updates: documents, signatures, and what makes them."""
