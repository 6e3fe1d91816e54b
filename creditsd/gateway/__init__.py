"""`creditsd serve`: the HTTP surface without a database, fed by what a sink publishes."""
