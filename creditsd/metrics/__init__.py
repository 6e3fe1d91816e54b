"""What is counted and told at `/metrics`, and the rates the operator's page draws."""
