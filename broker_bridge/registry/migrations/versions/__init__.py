"""One module to a revision. A revision that was released is never changed again."""
