"""Cards: JSON beside weights. One from elsewhere reaches known architectures and plain settings, nothing else."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from assay.bench.models.paths import is_file
from assay.core.errors import AssayError, first_line, unknown

LARGEST = 2**24  # bytes of a card
# sizes, counts, switches and names of layers that timm's constructors take; none that names a file or a function
WORDS = """
    aa_layer act_layer attn_drop_rate base_width block_size block_type bottle_ratio cardinality channels class_token
    conv_bias conv_mlp depth depths dim dims distilled drop_path_rate drop_rate dynamic_img_pad dynamic_img_size
    embed_dim embed_dims expand_ratio fc_norm final_norm fix_init global_pool growth_rate head_dim head_hidden_size
    head_init_scale head_norm_first hidden img_size in_chans init_values kernel_size kernel_sizes key_dim
    layer_scale_init_value layers ls_init_value mlp_ratio mlp_ratios no_embed_class norm_eps norm_layer num_classes
    num_features num_heads num_reg_tokens output_stride pad_type patch_drop_rate patch_size pool_include_prefix
    pos_drop_rate pos_embed pre_norm proj_bias proj_drop_rate qk_norm qkv_bias reg_tokens rope_temperature size
    stem_size stem_type stem_width strict_img_size use_abs_pos_emb use_fc_norm use_grn use_pos_embed use_post_norm
    use_rel_pos_bias use_rot_pos_emb weight_init width widths window_ratio window_size zero_init_last
"""
SETTINGS = frozenset(WORDS.split())
LONGEST = 64  # of a list
MOST = 2**14  # of all numbers in settings together: what is built has no more layers
SPARE = 2**26  # bytes that a network may have beyond a multiple of its file's
MULTIPLE = 8


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``; ``AssayError`` for anything else."""
    try:
        if not is_file(file):
            raise AssayError(f"{file} is no file")
        if file.stat().st_size > LARGEST:
            raise AssayError(f"{file} is larger than a card can be ({LARGEST} bytes)")
        content = json.loads(file.read_text(encoding="utf-8"))
    except AssayError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise AssayError(f"{file} is no JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise AssayError(f"{file} is no JSON object, but a {type(content).__name__}")
    return content


def read_card(path: Path, needs: Collection[str] = ()) -> dict[str, Any]:
    """The card beside weights; ``AssayError`` where it lacks what it ``needs`` or is of other weights."""
    file = path.with_suffix(".json")
    card = read_object(file)
    absent = [key for key in ("sha256", *needs) if key not in card]
    if absent:
        raise AssayError(f"{file} says nothing of {', '.join(absent)}; assay train writes whole cards")
    with path.open("rb") as weights:
        if hashlib.file_digest(weights, "sha256").hexdigest() != card["sha256"]:
            raise AssayError(
                f"{path} is not the file that its card describes (sha256 differs); fetch or train it again"
            )
    return card


def check_architecture(name: Any, source: Path) -> None:
    """Raise ``AssayError`` unless ``name`` is one of timm's architectures, without a tag or a place."""
    if not isinstance(name, str) or not re.fullmatch(r"\w+", name) or not timm.is_model(name):
        raise AssayError(f"{source}: its card names no architecture of timm, but {name!r:.100}")


def plain_settings(settings: Any, source: Path) -> dict[str, Any]:
    """``settings`` where they are numbers, words and lists of them under known names; else ``AssayError``."""
    if not isinstance(settings, dict):
        raise AssayError(f"{source}: settings are an object of names and values, not a {type(settings).__name__}")
    numbers = []
    for name, value in settings.items():
        if name not in SETTINGS:
            raise AssayError(f"{source}: {unknown('setting', name, sorted(SETTINGS))}; load it with py:")
        values = value if isinstance(value, list) else [value]
        if len(values) > LONGEST or not all(isinstance(item, bool | int | float | str | None) for item in values):
            raise AssayError(f"{source}: setting {name} is a number, a word or a list of them, not {value!r:.100}")
        numbers += [abs(item) for item in values if isinstance(item, int | float)]
    if not all(number <= MOST for number in numbers) or not sum(numbers) <= MOST:
        raise AssayError(f"{source}: the numbers of its settings exceed {MOST} together")
    return settings


def sketch(build: Callable[[], nn.Module], size: int, source: Path) -> nn.Module:
    """What ``build`` gives, without memory for its tensors.

    Raises ``AssayError`` where it cannot be built, or would take far more than ``size``, the bytes of its file.
    """
    try:
        with torch.device("meta"):
            network = build()
    except Exception as error:  # a constructor may raise anything at settings that are not its own
        raise AssayError(f"{source}: no network of its settings can be built: {first_line(error)}") from error
    total = sum(
        math.prod(tensor.shape) * tensor.element_size() for tensor in (*network.parameters(), *network.buffers())
    )
    if total > MULTIPLE * size + SPARE:
        raise AssayError(f"{source}: a network of its settings takes {total:,} bytes, its weights are {size:,}")
    return network
