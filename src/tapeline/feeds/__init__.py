"""The protocols of the feeds: what to say to each, and what its messages mean. No sockets here."""
