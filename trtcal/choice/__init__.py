"""What nobody has to ask for: the range method and the layers left in float that measure best."""
