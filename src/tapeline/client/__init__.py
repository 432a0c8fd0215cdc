"""What a program needs to follow the API of another one: bars, stored ones first and then live."""
