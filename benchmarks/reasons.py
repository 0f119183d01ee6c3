"""Why rows about the engine miss their aims, as profiles of them say: printed below a row that does."""

from __future__ import annotations

WHY_MISSED: dict[str, tuple[str, ...]] = {
    "ask_once": (
        "Most of both sides' time are products that both must compute: for 8 frames 2.7 TFLOP in the tower and 0.6 in "
        "the decoder. Where the processor multiplies half as fast, what ours does faster weighs less.",
    ),
    "decode_cpu": (
        "At 1188 tokens reading keys and values takes the kernel 12% of a step, timed around its calls (int8: 5 of 44 "
        "ms; bf16: 9 of 72 on a slow moment); products with weights are most of the rest (int8: 21 of 44 ms, "
        "`torch.profiler`), with some 500 small operations. So half the bytes of weights are not twice as soon.",
    ),
    "prefill": (
        "The linear layers alone are 1.88 TFLOP, 4.4 s at 430 GFLOP/s, which is what laid-out weights reach on a "
        "processor with one 512-bit bfloat16 product a cycle (family 25, model 17); the aim was set where it is two.",
    ),
    "vision": (
        "Profile of two frames: 69% are products with weights at 360 to 384 GFLOP/s, which is near what the processor "
        "can do (family 25, model 17), and 19% attention.",
    ),
    "many_videos": (
        "The linear layers of the tower are 29 TFLOP for 80 frames, those of the prompts 7 TFLOP more: at 400 GFLOP/s "
        "(family 25, model 17) 90 s that both sides must compute in bfloat16.",
        "With int8 products a profile of 8 of the videos has 27% in the products of many rows, 26% in attention and "
        "reading keys and values and 5% in laying weights out; the rest is rounding and other small operations.",
    ),
    "concurrent": (
        "Eight videos of 8 frames are 64 frames for the tower and 9,500 tokens of prompt, which both sides compute; "
        "with 64 new tokens each that is most of the time, so answering together cannot give 2.5 while a request alone "
        "(row ask_once) is 1.4 to 1.7 times as fast.",
    ),
    "load": (
        "Weights stay in their file until they are used. Each layer is laid out once, as it is first used, which the "
        "first token waits for; each further token is the faster for it (row decode_cpu).",
    ),
    "start": (
        "Imports are most of it on either side (1.3 s and more of ours is importing torch), and each layer is laid out "
        "for a single question.",
    ),
    "memory": (
        "Of ours about 1147 MB are weights, 195 imports and 152 keys and values; weights and imports alone "
        "are near the 1380 MB that the aim asks for.",
    ),
    "scale": (
        "256 frames are 36,884 tokens, and attention is most of it; there the fused kernel and attention in blocks "
        "take about the same (1.3 and 1.5 s for the last 1024 tokens of 16 heads).",
        "64 requests take more memory because ours reads and holds all of them at once; the peer has one at a time, "
        "its best.",
    ),
}
"""Sentences by the name of a row."""
