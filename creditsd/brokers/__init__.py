"""How to reach the servers that totals go through: urls, logins, TLS, and what a failure means for their operator.

Shared by the sink that writes there and the gateway that reads there; one file per kind of server.
"""
