"""Every key of OneTrainer's files, as its sources have them; facts looked up, nothing copied.

Configuration: version 11 (upstream at 23df3832) with what version 12 renamed or added, and what the
detail-crop fork (version 8) has beside it. Concepts: version 2; `detail_crops`, `luma_*` and
`style_focus_*` are the fork's.
"""


def _keys(text: str) -> list[str]:
    return text.split()


RUN = _keys(
    """
    training_method model_type debug_mode debug_dir workspace_dir cache_dir tensorboard
    tensorboard_expose tensorboard_always_on tensorboard_port validation validate_after
    validate_after_unit continue_last_backup prevent_overwrites include_train_config multi_gpu
    device_indexes gradient_reduce_precision fused_gradient_reduce async_gradient_reduce
    async_gradient_reduce_buffer base_model_name output_dtype output_model_format
    output_model_destination async_offloading force_circular_padding compile concept_file_name
    concepts aspect_ratio_bucketing latent_caching clear_cache_before_training
    learning_rate_scheduler custom_learning_rate_scheduler scheduler_params learning_rate
    learning_rate_warmup_steps learning_rate_cycles learning_rate_min_factor epochs batch_size
    gradient_accumulation_steps ema ema_decay ema_update_step_interval dataloader_threads
    train_device temp_device train_dtype fallback_train_dtype enable_autocast_cache only_cache
    resolution frames attention_mechanism mse_strength mae_strength log_cosh_strength
    huber_strength huber_delta vb_loss_strength loss_weight_fn loss_weight_strength
    dropout_probability loss_scaler learning_rate_scaler clip_grad_norm offset_noise_weight
    generalized_offset_noise perturbation_noise_weight
    rescale_noise_scheduler_to_zero_terminal_snr force_v_prediction force_epsilon_prediction
    min_noising_strength max_noising_strength timestep_distribution noising_weight noising_bias
    timestep_shift dynamic_timestep_shifting text_encoder_layer_skip text_encoder_sequence_length
    text_encoder_2_layer_skip text_encoder_2_sequence_length text_encoder_3_layer_skip
    text_encoder_4_layer_skip masked_training unmasked_probability unmasked_weight
    normalize_masked_area_loss masked_prior_preservation_weight custom_conditioning_image
    layer_filter layer_filter_preset layer_filter_regex embedding_learning_rate
    preserve_embedding_norm additional_embeddings embedding_weight_dtype cloud peft_type
    lora_model_name lora_rank lora_alpha lora_decompose lora_decompose_norm_epsilon
    lora_decompose_output_axis lora_weight_dtype bundle_additional_embeddings oft_block_size
    oft_block_share optimizer_defaults sample_definition_file_name samples sample_after
    sample_after_unit sample_skip_first sample_image_format sample_video_format
    sample_audio_format samples_to_tensorboard non_ema_sampling backup_after backup_after_unit
    rolling_backup rolling_backup_count backup_before_save save_every save_every_unit
    save_skip_first save_filename_prefix secrets offline_mode huggingface_cache_dir
    """
)

LATER_RUN = _keys(
    """
    text_caching prefetch_next_batch cep_gamma dora_oft oft_scaled oft_clipped_norm oft_cans
    lokr_dim lokr_decompose_both lokr_decompose_factor lokr_use_tucker lokr_weight_decompose
    lokr_dora_on_output lokr_full_matrix lokr_vec_trick
    """
)

FORK_RUN = ["sequential_model_setup", "block_learning_rate_multiplier"]

PARTS = _keys(
    """
    unet prior transformer unconditional_transformer text_encoder text_encoder_2 text_encoder_3
    text_encoder_4 vae effnet_encoder decoder decoder_text_encoder decoder_vqgan
    """
)

PART = _keys(
    """
    model_name include train stop_training_after stop_training_after_unit learning_rate
    weight_dtype dropout_probability train_embedding attention_mask guidance_scale
    gradient_checkpointing offload_fraction activation_offloading
    """
)

EMBEDDING = _keys(
    """
    uuid model_name placeholder train stop_training_after stop_training_after_unit token_count
    initial_embedding_text is_output_embedding
    """
)

QUANTIZATION = _keys(
    """
    layer_filter layer_filter_preset layer_filter_regex svd_dtype svd_rank cache_dir
    """
)

OPTIMIZER = _keys(
    """
    optimizer adam_w_mode alpha amsgrad beta1 beta2 beta3 bias_correction block_wise capturable
    centered clip_threshold d0 d_coef dampening decay_rate decouple differentiable eps eps2
    foreach fsdp_in_use fused fused_back_pass growth_rate initial_accumulator_value
    initial_accumulator is_paged log_every lr_decay max_unorm maximize min_8bit_size
    quant_block_size momentum nesterov no_prox optim_bits percentile_clipping r relative_step
    safeguard_warmup scale_parameter stochastic_rounding use_bias_correction use_triton
    warmup_init weight_decay weight_lr_power decoupled_decay fixed_decay rectify
    degenerated_to_sgd k xi n_sma_threshold ams_bound adanorm adam_debias slice_p cautious
    weight_decay_by_lr prodigy_steps use_speed split_groups split_groups_mean factored
    factored_fp32 use_stableadamw use_cautious use_grams use_adopt d_limiter use_schedulefree
    use_orthograd nnmf_factor orthogonal_gradient use_atan2 beta1_warmup min_beta1 kourkoutas_beta
    schedulefree_c ns_steps MuonWithAuxAdam muon_hidden_layers muon_adam_regex muon_adam_lr
    muon_te1_adam_lr muon_te2_adam_lr muon_adam_config rms_rescaling normuon_variant beta2_normuon
    low_rank_ortho ortho_rank accelerated_ns cautious_wd approx_mars compile
    spectral_normalization stochastic_sign centered_wd centered_wd_mode factored_2nd fisher_wd
    state_precision orthogonal_sinkhorn sinkhorn_iterations normed_momentum nesterov_coef snr_cond
    geometric_wd auto_kappa_p weight_decouple use_focus use_AdEMAMix beta3_ema alpha_grad
    Simplified_AdEMAMix cautious_mask grams_moment
    """
)

CONCEPT = _keys(
    """
    name path seed enabled type include_subdirectories image_variations text_variations balancing
    balancing_strategy loss_weight concept_stats
    """
)

TEXT = _keys(
    """
    prompt_source prompt_path enable_tag_shuffling tag_delimiter keep_tags_count
    tag_dropout_enable tag_dropout_mode tag_dropout_probability tag_dropout_special_tags_mode
    tag_dropout_special_tags tag_dropout_special_tags_regex caps_randomize_enable
    caps_randomize_mode caps_randomize_probability caps_randomize_lowercase
    """
)

IMAGE = _keys(
    """
    enable_crop_jitter enable_random_flip enable_fixed_flip enable_random_rotate
    enable_fixed_rotate random_rotate_max_angle enable_random_brightness enable_fixed_brightness
    random_brightness_max_strength enable_random_contrast enable_fixed_contrast
    random_contrast_max_strength enable_random_saturation enable_fixed_saturation
    random_saturation_max_strength enable_random_hue enable_fixed_hue random_hue_max_strength
    enable_resolution_override resolution_override enable_random_circular_mask_shrink
    enable_random_mask_rotate_crop
    """
)

FORK_IMAGE = _keys(
    """
    enable_luma_normalize luma_target_mean luma_target_std luma_mix enable_style_focus
    style_focus_mode style_focus_short_side style_focus_blur_sigma style_focus_mix
    style_focus_color_mean enable_random_noise enable_fixed_noise random_noise_max_strength
    random_noise_min_strength
    """
)

DETAIL_CROPS = _keys(
    """
    enabled tile_resolution overlap include_context_tiles include_full_images blank_std_threshold
    blank_edge_threshold parallel_workers regenerate_each_epoch enable_captioning
    caption_probability caption_model caption_system_prompt caption_user_prompt caption_endpoint
    caption_timeout caption_max_retries caption_auto_pull caption_max_tokens scales save_to_disk
    save_directory save_max_tiles_per_image
    """
)

SAMPLE = _keys(
    """
    enabled prompt negative_prompt height width frames length seed random_seed diffusion_steps
    cfg_scale noise_scheduler text_encoder_1_layer_skip text_encoder_2_layer_skip
    text_encoder_3_layer_skip text_encoder_4_layer_skip transformer_attention_mask
    force_last_timestep sample_inpainting base_image_path mask_image_path
    """
)

CONFIG_KEYS = [
    *RUN,
    *LATER_RUN,
    *FORK_RUN,
    *(f"{part}.{key}" for part in PARTS for key in PART),
    *(f"embedding.{key}" for key in EMBEDDING),
    *(f"quantization.{key}" for key in QUANTIZATION),
    *(f"optimizer.{key}" for key in OPTIMIZER),
]

CONCEPT_KEYS = [
    *CONCEPT,
    *(f"text.{key}" for key in TEXT),
    *(f"image.{key}" for key in (*IMAGE, *FORK_IMAGE)),
    *(f"image.detail_crops.{key}" for key in DETAIL_CROPS),
]
