"""One screen of health: what runs, how far it is, and what is wrong."""
