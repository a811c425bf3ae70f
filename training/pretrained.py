"""The parts of Stable Diffusion, from a local folder in the layout of diffusers, made ready to see two images.

    model_index.json   unet/   vae/   text_encoder/   tokenizer/   scheduler/

Nothing is downloaded, and a part that is missing is an error: a network of random weights never stands in for one.
"""

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..core.documents import parse_json, read_text
from ..core.errors import RecipeError, shorten
from ..core.networks.latent import autoencoder_arguments, unet_arguments
from ..core.networks.latent_sizes import AutoencoderSizes, AutoencoderSpec, LatentUNetSizes

_CONFIG_BYTES = 1 << 20
_PLAIN = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}
_FREE = {"in_channels", "out_channels", "sample_size", "scaling_factor", "shift_factor", "force_upcast", "latents_mean",
         "latents_std"}
"""What may differ without the network being another."""


@dataclass(frozen=True)
class Parts:
    """What there is in the folder, not loaded yet."""

    folder: Path
    unet: LatentUNetSizes
    """With one further channel of output, and twice the channels of input."""
    autoencoder: AutoencoderSpec
    """With its mix left to fill in."""


def find_parts(folder: str | Path, words: int, further: int) -> Parts:
    """Reads what the folder says of its parts, and loads none of them.

    Args:
        words: length of the prompt, in tokens.
        further: channels that the U-Net is to give besides the latents.

    Raises:
        RecipeError: for a folder or part that is missing, of a kind that is not supported, or for v-prediction.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecipeError(f"{folder} is not a folder: name that of Stable Diffusion in the layout of diffusers, with "
                          "unet, vae, text_encoder, tokenizer and scheduler.")
    missing = [name for name in ("unet/config.json", "vae/config.json", "text_encoder/config.json",
                                 "tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json")
               if not (folder / name).is_file()]
    missing += [f"{part}/*.safetensors" for part in ("unet", "vae", "text_encoder")
                if not list((folder / part).glob("*.safetensors"))]
    if missing:
        raise RecipeError(f"{folder} is not whole, it lacks {', '.join(missing)}: download all parts of the model, as "
                          "safetensors.")
    scheduler = _config(folder / "scheduler" / "scheduler_config.json")
    if scheduler.get("prediction_type", "epsilon") != "epsilon":
        raise RecipeError(f"{folder} predicts {scheduler['prediction_type']}, and what is trained here begins with one "
                          "that predicts epsilon: use the base model, such as stable-diffusion-2-1-base.")
    unet, vae = (_config(folder / part / "config.json") for part in ("unet", "vae"))
    latents = vae.get("latent_channels", 4)
    if {unet.get("in_channels", 4), unet.get("out_channels", 4)} != {latents}:
        raise RecipeError(f"The unet of {folder} takes {unet.get('in_channels', 4)} and gives "
                          f"{unet.get('out_channels', 4)} channels, and its vae makes latents of {latents}: use a "
                          "model that makes images from text, as it was published.")
    try:
        sizes, vae_sizes = _unet_sizes(unet, latents, words, further), _autoencoder_sizes(vae)
        autoencoder = AutoencoderSpec(sizes=vae_sizes, scaling=vae.get("scaling_factor", 0.18215),
                                      shift=vae.get("shift_factor") or 0, mix=((0.0,),) * 3)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise RecipeError(f"The unet or the vae of {folder} has sizes that geoi2i does not know "
                          f"({shorten(str(error))}): use a model of the family of Stable Diffusion 1 or 2.") from error
    for built, config, kind, part in ((unet_arguments(sizes), unet, "UNet2DConditionModel", "unet"),
                                      (autoencoder_arguments(vae_sizes), vae, "AutoencoderKL", "vae")):
        _check_known(folder / part, built, config, kind)
    return Parts(folder, sizes, autoencoder)


def load_unet(parts: Parts) -> dict[str, Tensor]:
    """The U-Net's tensors after surgery: it takes the source's latents and the state's, and says more besides.

    The weights of its first convolution stand twice, each halved, so that with the same latents twice it gives what it
    gave before; those of the further output channels are zero.
    """
    import diffusers

    tensors = _loaded(diffusers.UNet2DConditionModel, parts.folder, "unet", **_PLAIN).state_dict()
    tensors["conv_in.weight"] = torch.cat([tensors["conv_in.weight"]] * 2, 1) * 0.5
    further = parts.unet.bands_out - len(tensors["conv_out.weight"])
    for name in ("conv_out.weight", "conv_out.bias"):
        tensors[name] = torch.cat([tensors[name], tensors[name].new_zeros(further, *tensors[name].shape[1:])])
    return {f"unet.{name}": tensor for name, tensor in tensors.items()}


def load_autoencoder(parts: Parts) -> dict[str, Tensor]:
    """The autoencoder's tensors."""
    import diffusers

    vae = _loaded(diffusers.AutoencoderKL, parts.folder, "vae", **_PLAIN)
    return {f"autoencoder.{name}": tensor for name, tensor in vae.state_dict().items()}


def embedded_prompt(folder: str | Path, prompt: str) -> Tensor:
    """What the text encoder makes of a prompt, (1,words,context)."""
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = _local(CLIPTokenizer, Path(folder), "tokenizer")
    encoder = _loaded(CLIPTextModel, Path(folder), "text_encoder", dtype=torch.float32)
    tokens = tokenizer(prompt, padding="do_not_pad", truncation=True, return_tensors="pt").input_ids
    with torch.inference_mode():
        return encoder(tokens)[0].clone()


def _local(kind, folder: Path, part: str, **more):
    """What a library makes of a part; it asks no server."""
    try:
        return kind.from_pretrained(folder, subfolder=part, local_files_only=True, **more)
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        first = str(error).strip().split("\n")[0].replace(str(folder / part), part).replace(str(folder), folder.name)
        raise RecipeError(f"{folder / part} cannot be loaded ({shorten(first)}): download it again.") from error


def _loaded(kind, folder: Path, part: str, **more):
    """A part with its weights; one that lacks some is refused, since a library would draw them by chance."""
    model, found = _local(kind, folder, part, use_safetensors=True, output_loading_info=True, **more)
    lacks = [*found["missing_keys"], *(key[0] for key in found.get("mismatched_keys", ()))]
    if lacks:
        raise RecipeError(f"The weights in {folder / part} lack {len(lacks)} tensors (first {min(lacks)}): download it "
                          "again.")
    return model.eval()


def _config(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_text(path, _CONFIG_BYTES))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read as JSON ({error}): download it again.") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} is not a configuration: download it again.")
    return content


def _unet_sizes(config: dict[str, Any], latents: int, words: int, further: int) -> LatentUNetSizes:
    widths = list(config.get("block_out_channels", (320, 640, 1280, 1280)))
    heads = config.get("num_attention_heads") or config.get("attention_head_dim", 8)
    by_level = isinstance(heads, list | tuple)
    return LatentUNetSizes(
        bands_in=2 * latents, bands_out=latents + further, width=widths[0], levels=len(widths) - 1,
        layers=config.get("layers_per_block", 2), widest=max(widths) // widths[0],
        head_px=widths[0] // heads[0] if by_level else 0, heads=0 if by_level else heads,
        linear=int(config.get("use_linear_projection", False)), groups=config.get("norm_num_groups", 32),
        context=config.get("cross_attention_dim", 1280), words=words)


def _autoencoder_sizes(config: dict[str, Any]) -> AutoencoderSizes:
    widths = list(config.get("block_out_channels", (64,)))
    return AutoencoderSizes(latents=config.get("latent_channels", 4), width=widths[0], levels=len(widths) - 1,
                            layers=config.get("layers_per_block", 1), widest=max(widths) // widths[0],
                            groups=config.get("norm_num_groups", 32), quantised=int(config.get("use_quant_conv", True)))


def _check_known(part: Path, built: dict[str, Any], config: dict[str, Any], kind: str) -> None:
    """Refuses a network that differs from what its sizes would build."""
    import diffusers

    defaults = {name: value.default for name, value in
                inspect.signature(getattr(diffusers, kind).__init__).parameters.items() if name != "self"}
    if config.get("_class_name", kind) != kind:
        raise RecipeError(f"{part} is a {config['_class_name']}: name a model whose {part.name} is a {kind}.")
    for name in defaults.keys() - _FREE:
        ours, theirs = built.get(name, defaults[name]), config.get(name, defaults[name])
        if theirs is not None and _plain(ours) != _plain(theirs) and not _same_heads(name, built, config):
            raise RecipeError(f"The {part.name} of {part.parent} has {name} {theirs!r}, and geoi2i knows {ours!r} only:"
                              " use a model of the family of Stable Diffusion 1 or 2.")


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _same_heads(name: str, built: dict[str, Any], config: dict[str, Any]) -> bool:
    return name in ("attention_head_dim", "num_attention_heads") and _plain(built["attention_head_dim"]) == _plain(
        config.get("num_attention_heads") or config.get("attention_head_dim", 8))
