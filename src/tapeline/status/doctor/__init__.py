"""What a user may have wrong, checked without starting, fetching or changing anything."""
