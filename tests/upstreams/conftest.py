"""Tiny random checkpoints of every family of speech encoders that the `huggingface` upstream runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from superbench import torchaudio_loader

CONV: dict[str, Any] = {
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
SEQ2SEQ: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "vocab_size": 60,
    "pad_token_id": 1,
}
# model type -> (configuration class, its settings, feature extractor class, its settings)
FAMILIES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "hubert": ("HubertConfig", CONV, "Wav2Vec2", {"do_normalize": False}),
    "wav2vec2": ("Wav2Vec2Config", {**CONV, "do_stable_layer_norm": True}, "Wav2Vec2", {"do_normalize": True}),
    "wavlm": ("WavLMConfig", {**CONV, "feat_extract_norm": "layer"}, "Wav2Vec2", {"do_normalize": True}),
    "data2vec-audio": (
        "Data2VecAudioConfig",
        {**CONV, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5},
        "Wav2Vec2",
        {"do_normalize": True},
    ),
    "unispeech": ("UniSpeechConfig", CONV, "Wav2Vec2", {"do_normalize": True}),
    "unispeech-sat": ("UniSpeechSatConfig", CONV, "Wav2Vec2", {"do_normalize": False}),
    "wav2vec2-conformer": ("Wav2Vec2ConformerConfig", CONV, "Wav2Vec2", {"do_normalize": True}),
    "sew": ("SEWConfig", CONV, "Wav2Vec2", {"do_normalize": True}),
    "sew-d": ("SEWDConfig", CONV, "Wav2Vec2", {"do_normalize": True}),
    "wav2vec2-bert": (
        "Wav2Vec2BertConfig",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "feature_projection_input_dim": 40,
        },
        "SeamlessM4T",
        {"feature_size": 20, "num_mel_bins": 20},
    ),
    "whisper": (
        "WhisperConfig",
        {**SEQ2SEQ, "num_mel_bins": 20, "max_source_positions": 100, "decoder_start_token_id": 4},
        "Whisper",
        {"feature_size": 20, "chunk_length": 2},
    ),
    "speech_to_text": (
        "Speech2TextConfig",
        {**SEQ2SEQ, "input_feat_per_channel": 20, "conv_channels": 32, "max_source_positions": 50},
        "Speech2Text",
        {"feature_size": 20, "num_mel_bins": 20},
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for a `family` runs once for each."""
    if "family" in metafunc.fixturenames:
        metafunc.parametrize("family", FAMILIES)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random checkpoint of each family, as `save_pretrained` writes it."""
    import torch

    torchaudio_loader.load()  # before anything imports transformers
    transformers = pytest.importorskip("transformers", reason="transformers (the extra 'hf') is not installed")
    root = tmp_path_factory.mktemp("checkpoints")
    for name, (config_name, settings, extractor_name, extractor_settings) in FAMILIES.items():
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(getattr(transformers, config_name)(**settings))
        model.save_pretrained(root / name)
        extractor = getattr(transformers, f"{extractor_name}FeatureExtractor")
        extractor(**extractor_settings).save_pretrained(root / name)
    return {name: root / name for name in FAMILIES}
