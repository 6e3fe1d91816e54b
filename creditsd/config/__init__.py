"""What the process is told, and how it reports: settings, the log, systemd."""
