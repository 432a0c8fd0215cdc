"""What every program of ours has: settings, logs, metrics, signals, exit codes."""
