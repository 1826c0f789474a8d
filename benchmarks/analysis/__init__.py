"""How long analysis takes, beside an older commit of trtcal."""
