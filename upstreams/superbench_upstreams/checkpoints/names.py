"""What the parts of an encoder are called in other people's files, and what we call them.

fairseq, s3prl, unilm     encoder.layers.3.self_attn.q_proj.weight     ->  layers.3.attention.query.weight
transformers              encoder.layers.3.attention.q_proj.weight     ->  layers.3.attention.query.weight
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

Table = Sequence[tuple[re.Pattern[str], str]]


def _table(rows: Mapping[str, str]) -> Table:
    return tuple((re.compile(pattern), ours) for pattern, ours in rows.items())


LAYER = r"encoder\.layers\.(\d+)\."
KIND = r"(weight|bias)"

FAIRSEQ = _table(
    {
        r"mask_emb": "mask_embedding",
        rf"feature_extractor\.conv_layers\.(\d+)\.0\.{KIND}": r"convolutions.layers.\1.\2",
        rf"feature_extractor\.conv_layers\.(\d+)\.2(?:\.1)?\.{KIND}": r"convolutions.layers.\1.norm.\2",
        rf"layer_norm\.{KIND}": r"feature_norm.\1",
        rf"post_extract_proj\.{KIND}": r"projection.\1",
        r"encoder\.pos_conv\.0\.(bias|weight_g|weight_v)": r"positions.blocks.0.\1",
        r"encoder\.pos_conv\.0\.parametrizations\.weight\.original0": "positions.blocks.0.weight_g",
        r"encoder\.pos_conv\.0\.parametrizations\.weight\.original1": "positions.blocks.0.weight_v",
        rf"encoder\.pos_conv\.(\d+)\.0\.{KIND}": r"positions.blocks.\1.\2",
        rf"encoder\.layer_norm\.{KIND}": r"norm.\1",
        rf"{LAYER}self_attn\.q_proj\.{KIND}": r"layers.\1.attention.query.\2",
        rf"{LAYER}self_attn\.k_proj\.{KIND}": r"layers.\1.attention.key.\2",
        rf"{LAYER}self_attn\.v_proj\.{KIND}": r"layers.\1.attention.value.\2",
        rf"{LAYER}self_attn\.out_proj\.{KIND}": r"layers.\1.attention.output.\2",
        rf"{LAYER}self_attn_layer_norm\.{KIND}": r"layers.\1.attention_norm.\2",
        rf"{LAYER}fc1\.{KIND}": r"layers.\1.ffn_in.\2",
        rf"{LAYER}fc2\.{KIND}": r"layers.\1.ffn_out.\2",
        rf"{LAYER}final_layer_norm\.{KIND}": r"layers.\1.ffn_norm.\2",
        rf"{LAYER}self_attn\.grep_linear\.{KIND}": r"layers.\1.attention.gate.\2",
        rf"{LAYER}self_attn\.grep_a": r"layers.\1.attention.gate_scale",
        r"encoder\.layers\.0\.self_attn\.relative_attention_bias\.weight": "relative_positions.weight",
    }
)
TRANSFORMERS = _table(
    {
        r"masked_spec_embed": "mask_embedding",
        rf"feature_extractor\.conv_layers\.(\d+)\.conv\.{KIND}": r"convolutions.layers.\1.\2",
        rf"feature_extractor\.conv_layers\.(\d+)\.layer_norm\.{KIND}": r"convolutions.layers.\1.norm.\2",
        rf"feature_projection\.layer_norm\.{KIND}": r"feature_norm.\1",
        rf"feature_projection\.projection\.{KIND}": r"projection.\1",
        r"encoder\.pos_conv_embed\.conv\.(bias|weight_g|weight_v)": r"positions.blocks.0.\1",
        r"encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0": "positions.blocks.0.weight_g",
        r"encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1": "positions.blocks.0.weight_v",
        rf"encoder\.pos_conv_embed\.layers\.(\d+)\.conv\.{KIND}": r"positions.blocks.\1.\2",
        rf"encoder\.layer_norm\.{KIND}": r"norm.\1",
        rf"{LAYER}attention\.q_proj\.{KIND}": r"layers.\1.attention.query.\2",
        rf"{LAYER}attention\.k_proj\.{KIND}": r"layers.\1.attention.key.\2",
        rf"{LAYER}attention\.v_proj\.{KIND}": r"layers.\1.attention.value.\2",
        rf"{LAYER}attention\.out_proj\.{KIND}": r"layers.\1.attention.output.\2",
        rf"{LAYER}layer_norm\.{KIND}": r"layers.\1.attention_norm.\2",
        rf"{LAYER}feed_forward\.intermediate_dense\.{KIND}": r"layers.\1.ffn_in.\2",
        rf"{LAYER}feed_forward\.output_dense\.{KIND}": r"layers.\1.ffn_out.\2",
        rf"{LAYER}final_layer_norm\.{KIND}": r"layers.\1.ffn_norm.\2",
        rf"{LAYER}attention\.gru_rel_pos_linear\.{KIND}": r"layers.\1.attention.gate.\2",
        rf"{LAYER}attention\.gru_rel_pos_const": r"layers.\1.attention.gate_scale",
        r"encoder\.layers\.0\.attention\.rel_attn_embed\.weight": "relative_positions.weight",
    }
)


def ours(name: str, table: Table) -> str | None:
    """Our name of what a file calls `name`; None where an encoder has no such part."""
    for pattern, template in table:
        match = pattern.fullmatch(name)
        if match:
            return match.expand(template)
    return None


def belongs(name: str, parts: Iterable[str]) -> bool:
    """Is `name` one of `parts`, or inside one ("final_proj.weight" in "final_proj")?"""
    return any(name == part or name.startswith(f"{part}.") for part in parts)
