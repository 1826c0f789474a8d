"""The league: the default, every range method, and peers, on the same networks and images."""
