"""Pictures from a list of addresses: fetched with care for the hosts that serve them and for our own network."""
