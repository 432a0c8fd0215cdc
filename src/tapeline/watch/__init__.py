"""`tapeline watch`: rules, the events that they make, and their way to a webhook."""
