"""The videolm command line."""
