"""How often what is printed holds: coverage of every interval, false positives of every p and band, in known worlds."""
