"""OTA updates: the rules of their documents and signatures, and the thread that makes and unmakes them."""
