"""Nobody hurts another: the whole service, over sockets that are read as slowly as a test likes."""
