"""What the classes of other libraries have and ours do not, each with what to do in its place."""

from __future__ import annotations

from videolm.errors import NotOfferedError

__all__ = ["NOT_OFFERED", "not_offered"]

_TRAINING = "Train with `videolm train sft`, or with torch itself."
_SAVING = "Save with save_pretrained and upload the folder with the hub's own client."

NOT_OFFERED = {
    "prune_heads": "Load a smaller checkpoint.",
    "push_to_hub": _SAVING,
    "save_to_hub": _SAVING,
    "add_adapter": _TRAINING,
    "load_adapter": "Merge the adapter into the checkpoint and load that.",
    "enable_adapters": "Merge the adapter into the checkpoint and load that.",
    "disable_adapters": "Load the checkpoint without the adapter.",
    "set_adapter": "Merge the adapter into the checkpoint and load that.",
    "to_bettertransformer": "attn_implementation='sdpa' already runs the fused kernels.",
    "reverse_bettertransformer": "Nothing needs to be reversed.",
    "compute_transition_scores": "Generate with return_dict_in_generate=True and output_scores=True and read scores.",
    "assisted_decoding": "Use generate.",
    "contrastive_search": "Use generate.",
    "beam_search": "Use generate with num_beams.",
    "greedy_search": "Use generate.",
    "sample": "Use generate with do_sample=True.",
    "group_beam_search": "Use generate with num_beams.",
    "init_weights": "Build the model from its configuration, which draws all weights.",
    "enable_input_require_grads": _TRAINING,
    "disable_input_require_grads": _TRAINING,
    "add_model_tags": "Write the tags into the model card.",
    "register_for_auto_class": "Import the class by its name.",
    "set_input_embeddings": "Assign to get_input_embeddings().weight, or use resize_token_embeddings.",
    "set_output_embeddings": "Assign to get_output_embeddings().weight, or use resize_token_embeddings.",
}
"""Names, and the advice about each."""


def not_offered(owner: str, name: str) -> NotOfferedError:
    """The error for asking a class for one of these names."""
    return NotOfferedError(
        f"{owner} has no {name}: this library offers what inference, training and saving of these models need, and "
        f"nothing else of the classes it is compatible with. {NOT_OFFERED[name]}"
    )
