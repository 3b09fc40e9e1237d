"""How the network is run in a decode: plain, guided, cached, compiled or self-conditioned."""
