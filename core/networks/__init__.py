"""The networks, and their sizes as a manifest names them."""
