"""How the network is run in a decode: plain, cached, compiled or self-conditioned."""
