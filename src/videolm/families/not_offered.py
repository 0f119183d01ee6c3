"""What the classes of other libraries have and ours do not, each with what to do in its place."""

from __future__ import annotations

from videolm.errors import ArgumentError, NotOfferedError

__all__ = ["NOT_OFFERED", "NOT_OFFERED_BY_PARTS", "REFUSED_OPTIONS", "not_offered", "refused_option"]

_NAMES = {
    "Load a smaller checkpoint.": "prune_heads get_head_mask",
    "Train with `videolm train sft`, or with torch itself.": (
        "enable_input_require_grads disable_input_require_grads activation_checkpointing_enable "
        "activation_checkpointing_disable is_activation_checkpointing is_gradient_checkpointing "
        "supports_gradient_checkpointing estimate_tokens floating_point_ops add_memory_hooks reset_memory_hooks_state"
    ),
    "Call torch.compile on the model.": "get_compiled_call",
    "Merge the adapter into the checkpoint and load that.": (
        "add_adapter load_adapter delete_adapter set_adapter enable_adapters disable_adapters active_adapter "
        "active_adapters get_adapter_state_dict enable_peft_hotswap"
    ),
    "Save with save_pretrained and upload the folder with the hub's own client.": "push_to_hub save_to_hub",
    "attn_implementation='sdpa' already runs the fused kernels.": (
        "to_bettertransformer reverse_bettertransformer use_kernels set_use_kernels"
    ),
    "Read model.attn_implementation.": "get_correct_attn_implementation",
    "Generate with return_dict_in_generate=True and output_scores=True and read scores.": "compute_transition_scores",
    "Use generate.": (
        "assisted_decoding contrastive_search greedy_search generate_batch continuous_batching_context_manager "
        "init_continuous_batching destroy_cached_continuous_batching_manager adjust_generation_fn load_custom_generate "
        "prepare_inputs_for_generation heal_tokens can_generate generation_config_class"
    ),
    "Use generate with num_beams.": "beam_search group_beam_search beam_sample constrained_beam_search",
    "Use generate with do_sample=True.": "sample",
    "Build the model from its configuration, which draws all weights.": (
        "init_weights initialize_weights post_init from_config smart_apply get_init_context"
    ),
    "Write the tags into the model card.": "add_model_tags model_tags",
    "Import the class by its name.": "register_for_auto_class is_custom_code is_remote_code",
    "Assign to get_input_embeddings().weight, or use resize_token_embeddings.": "set_input_embeddings",
    "Assign to get_output_embeddings().weight, or use resize_token_embeddings.": "set_output_embeddings",
    "Positions are turned by formula, whatever their number: set text_config.max_position_embeddings.": (
        "get_position_embeddings resize_position_embeddings"
    ),
    "It is model.model.": "base_model base_model_prefix",
    "It is model.model.language_model, and the head is model.lm_head.": "language_model get_decoder set_decoder",
    "It is model.model.vision_tower, or image_tower and video_tower where there are two.": (
        "vision_tower image_tower video_tower get_encoder set_encoder"
    ),
    "It is model.model.multi_modal_projector.": "multi_modal_projector",
    "It is model.model.image_newline.": "image_newline",
    "It is model.model.vision_resampler.": "vision_resampler",
    "Use get_image_features, which lays the tiles out.": "pack_image_features",
    "Pass labels to forward, which returns the loss.": "loss_function",
    "Add up parameter.nbytes over model.parameters().": "get_memory_footprint",
    "Use get_parameter and get_buffer of torch.": "get_parameter_or_buffer named_non_persistent_buffers",
    "It is type(model.config).": "config_class",
    "It is input_ids.": "main_input_name dummy_inputs input_modalities output_modalities framework",
    "Pass attention_mask to forward, which makes what its kernel needs.": (
        "get_extended_attention_mask invert_attention_mask create_extended_attention_mask_for_decoder "
        "warn_if_padding_and_no_attention_mask"
    ),
    "Load the checkpoint unquantised.": "dequantize",
    "One process runs one model; `videolm train sft` shards training over several.": (
        "barrier_after_gathered_checkpoint_save ep_plan fsdp_plan fsdp_size gather_sharded_state_dict_for_save "
        "init_parallel_plans is_distributed_loading_by_transformers maybe_distribute_model pp_plan "
        "prepare_distribute_model save_distributed_checkpoint should_save_on_this_rank supports_context_parallel "
        "supports_pp_plan supports_tp_plan tp_plan tp_size parallelize deparallelize"
    ),
    "Nothing needs to take its place.": (
        "can_record_outputs get_correct_experts_implementation get_experts_implementation set_experts_implementation "
        "get_expanded_tied_weights_keys is_backend_compatible mark_tied_weights_as_initialized "
        "retrieve_modules_from_names"
    ),
}
NOT_OFFERED = {name: advice for advice, names in _NAMES.items() for name in names.split()}
"""Names, and the advice about each."""

_OF_THE_WHOLE = (
    "get_output_embeddings gradient_checkpointing_disable gradient_checkpointing_enable num_parameters "
    "resize_token_embeddings save_pretrained set_attn_implementation tie_weights"
)
NOT_OFFERED_BY_PARTS = NOT_OFFERED | dict.fromkeys(
    _OF_THE_WHOLE.split(), "Call it on the whole model, whose .model is this part."
)
"""The same for the part without the head."""

REFUSED_OPTIONS = {
    "config": "Name the keys that are to be different, as in vision_feature_layer=-1.",
    "state_dict": "Use from_state_dict.",
    "trust_remote_code": "Leave it out: the families are built in and bring no code.",
    "use_safetensors": "Leave it out: whatever the folder holds is read.",
    "variant": "Pass the folder of that variant.",
    "force_download": "Empty the cache, or pass another cache_dir.",
    "use_auth_token": "Pass token.",
    "offload_folder": "Leave it out: a model runs on one device. Quantise it if it is too large.",
    "offload_state_dict": "Leave it out: weights are read one by one to their place anyway.",
    "max_memory": "Leave it out: a model runs on one device. Quantise it if it is too large.",
    "output_loading_info": "Leave it out: a missing or unexpected tensor is an error.",
    "ignore_mismatched_sizes": "Leave it out, and call resize_token_embeddings after loading.",
    "tp_plan": "Leave it out: one process runs one model.",
}
"""Options of ``from_pretrained`` in other libraries, and the advice about each."""


def not_offered(owner: str, name: str, advice: str) -> NotOfferedError:
    """The error for asking a class for one of these names."""
    return NotOfferedError(
        f"{owner} has no {name}: this library offers what inference, training and saving of these models need, and "
        f"nothing else of the classes it is compatible with. {advice}"
    )


def refused_option(name: str) -> ArgumentError:
    """The error for passing one of these options."""
    return ArgumentError(
        f"from_pretrained got {name}, which other libraries offer: expected the options of this one, or keys of the "
        f"configuration. {REFUSED_OPTIONS[name]}"
    )
