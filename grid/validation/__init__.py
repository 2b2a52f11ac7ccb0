"""Statistics of a search: pure functions of arrays, without files, clocks or sessions. One module a subject."""
