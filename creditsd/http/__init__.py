"""The HTTP surface: reads, streams, probes, metrics, the operator's page; and where its totals come from."""
