"""Stages text and latents: what the denoiser trains on."""
