"""`creditsd bench`: what a trigger costs on the server at hand."""
