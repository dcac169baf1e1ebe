"""The message types of the contract, as they travel over HTTP and as Python callers see them."""
