"""Ask the bundled model from Python: ``python examples/ask.py clip.mp4 "What is moving?"``."""

import sys

import videolm

*media, question = sys.argv[1:]
session = videolm.load()
stream = session.stream(media, question)
for piece in stream:
    print(piece, end="", flush=True)
print()
print(f"{stream.answer.usage.visual_tokens} visual tokens, {stream.answer.timings_s['total']:.2f} s")
