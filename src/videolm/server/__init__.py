"""The engine on the network: an OpenAI-compatible API, and a page to talk to a video."""
