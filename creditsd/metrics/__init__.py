"""Figures for `/metrics`, and the rates the operator's page draws."""
