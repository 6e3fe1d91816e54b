"""What a person asks and does, without a terminal: the commands, and the operator's page, ask here."""
