"""Tiny random multimodal models of every family that the installed TransformerLens can boot, and their processors."""

import warnings
from importlib.metadata import version

import numpy as np
import torch
import transformers as T
from PIL import Image
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

from semhub_lens.inputs.media import Media
from semhub_lens.inputs.prompts import Prompt

NEW_LINE = int(version("transformer-lens").split(".")[0]) >= 4
MEDIA = [
    "<image>",
    "<audio>",
    "<video>",
    "<boi>",
    "<eoi>",
    "<break>",
    "<end>",
    "<pad>",
    "<fake_token_around_image>",
    "<end_of_utterance>",
    "<global-img>",
]
WORDS = "What is this ? a dog cat house red blue Yes No".split()  # noqa: SIM905
TILES = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
VOCABULARY = ["<unk>", "<bos>", "<eos>", *MEDIA, *WORDS, *TILES]
WIDTH, LAYERS, PATCH, SIDE = 32, 3, 14, 28
IMAGE, AUDIO = VOCABULARY.index("<image>"), VOCABULARY.index("<audio>")
VISION = ("llava", "llava_next", "llava_onevision", "idefics3", "qwen2_5_vl", "qwen3_vl", "glm4v", "mistral3") + (
    ("gemma3",) if NEW_LINE else ()
)
SOUND = ("qwen2_audio", "audioflamingo3", "musicflamingo", "glmasr")
FAMILIES = VISION + SOUND
RATE, MELS = 16000, 16


def tokenizer() -> T.PreTrainedTokenizerFast:
    """Whole words and placeholders; placeholders need no spaces between them."""
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = T.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    made.init_kwargs |= {"name_or_path": "tiny", "add_bos_token": True}
    made.add_special_tokens({"additional_special_tokens": [*MEDIA, *TILES]})
    return made


def text_config(cls, **settings):
    """A language model of three layers."""
    shape = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.3,
    }
    return cls(**(shape | settings))


def vision_config(cls, **settings):
    """A vision tower of two layers."""
    shape = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": SIDE,
        "patch_size": PATCH,
        "initializer_range": 0.3,
    }
    return cls(**(shape | settings))


def sub_config(module: str, name: str):
    """A configuration class that is not exported at the top."""
    return getattr(__import__(f"transformers.models.{module}.configuration_{module}", fromlist=[name]), name)


def network(family: str):
    """The Hugging Face model with random weights; norms and biases are random too."""
    torch.manual_seed(0)
    model = _BUILD[family]().eval()
    for name, parameter in model.named_parameters():
        if "norm" in name.lower() or name.endswith("bias"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif ".conv" in name or not parameter.any():  # ears are deaf by default, Gemma 3's projector is 0
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def bridge(family: str, hf=None):
    """The model as a `TransformerBridge`."""
    hf = network(family) if hf is None else hf
    architecture = type(hf).__name__
    adapter = SUPPORTED_ARCHITECTURES[architecture]
    needed, adapter.required_libraries = getattr(adapter, "required_libraries", []), []  # torchvision reads files only
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # hook names that a vision tower lacks
            made = build_bridge_from_module(hf, architecture, hf_config=hf.config, tokenizer=tokenizer())
    finally:
        adapter.required_libraries = needed
    made.cfg.model_name = f"tiny-{family}"
    return made.eval()


def _llava():
    vision = vision_config(T.CLIPVisionConfig, projection_dim=16)
    return T.LlavaForConditionalGeneration(
        T.LlavaConfig(
            vision_config=vision,
            text_config=text_config(T.LlamaConfig),
            image_token_index=IMAGE,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
            image_seq_length=4,
        )
    )


def _llava_next():
    vision = vision_config(T.CLIPVisionConfig, projection_dim=16)
    return T.LlavaNextForConditionalGeneration(
        T.LlavaNextConfig(
            vision_config=vision,
            text_config=text_config(T.LlamaConfig),
            image_token_index=IMAGE,
            image_grid_pinpoints=[[28, 56], [56, 28], [56, 56]],
            image_seq_length=4,
        )
    )


def _llava_onevision():
    return T.LlavaOnevisionForConditionalGeneration(
        T.LlavaOnevisionConfig(
            vision_config=vision_config(T.SiglipVisionConfig),
            text_config=text_config(T.Qwen2Config),
            image_token_index=IMAGE,
            video_token_index=VOCABULARY.index("<video>"),
            image_grid_pinpoints=[[28, 56], [56, 28], [56, 56]],
        )
    )


def _idefics3():
    vision = vision_config(sub_config("idefics3", "Idefics3VisionConfig"), image_size=2 * SIDE)
    config = T.Idefics3Config(
        vision_config=vision,
        text_config=text_config(T.LlamaConfig),
        image_token_id=IMAGE,
        scale_factor=2,
        pad_token_id=0,
    )
    return T.Idefics3ForConditionalGeneration(config)


def _gemma3():
    text = text_config(T.Gemma3TextConfig, head_dim=8, query_pre_attn_scalar=8, sliding_window=64)
    config = T.Gemma3Config(
        text_config=text,
        vision_config=vision_config(T.SiglipVisionConfig, vision_use_head=False),
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
        boi_token_index=VOCABULARY.index("<boi>"),
        eoi_token_index=VOCABULARY.index("<eoi>"),
    )
    return T.Gemma3ForConditionalGeneration(config)


def _rotary(module: str, prefix: str, model: str, vision: dict, rotary: dict | None = None, **text):
    """Qwen-VL and GLM-V: positions of pictures have two dimensions."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]} | (rotary or {})
    config = sub_config(module, f"{prefix}Config")(
        text_config=text_config(sub_config(module, f"{prefix}TextConfig"), rope_parameters=rope, **text),
        vision_config=sub_config(module, f"{prefix}VisionConfig")(
            depth=2,
            hidden_size=24,
            out_hidden_size=WIDTH,
            intermediate_size=48,
            num_heads=3,
            patch_size=PATCH,
            **vision,
        ),
        image_token_id=IMAGE,
        video_token_id=VOCABULARY.index("<video>"),
        vision_start_token_id=VOCABULARY.index("<boi>"),
        vision_end_token_id=VOCABULARY.index("<eoi>"),
    )
    return getattr(T, model)(config)


def _qwen2_5_vl():
    vision = {"window_size": 56, "fullatt_block_indexes": [1]}
    return _rotary("qwen2_5_vl", "Qwen2_5_VL", "Qwen2_5_VLForConditionalGeneration", vision)


def _qwen3_vl():
    vision = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return _rotary("qwen3_vl", "Qwen3VL", "Qwen3VLForConditionalGeneration", vision, head_dim=8)


def _glm4v():
    vision = {"image_size": SIDE}
    return _rotary("glm4v", "Glm4v", "Glm4vForConditionalGeneration", vision, {"partial_rotary_factor": 1.0})


def _mistral3():
    vision = vision_config(T.PixtralVisionConfig, image_size=112, head_dim=8)
    config = T.Mistral3Config(
        vision_config=vision,
        text_config=text_config(T.MistralConfig, head_dim=8),
        image_token_index=IMAGE,
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    return T.Mistral3ForConditionalGeneration(config)


def _ears(module: str, prefix: str, width: str = "hidden_size", positions: str = "max_source_positions", **settings):
    names = {"hidden_size": "hidden_size", "d_model": "d_model"}
    layers = ("num_hidden_layers", "num_attention_heads", "intermediate_size")
    if width == "d_model":
        layers = ("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    shape = {names[width]: 24, layers[0]: 2, layers[1]: 3, layers[2]: 48, positions: 16, "num_mel_bins": MELS}
    return sub_config(module, f"{prefix}EncoderConfig")(**(shape | settings))


def _qwen2_audio():
    config = T.Qwen2AudioConfig(
        audio_config=_ears("qwen2_audio", "Qwen2Audio", "d_model"),
        text_config=text_config(T.Qwen2Config),
        audio_token_index=AUDIO,
        pad_token_id=0,
    )
    return T.Qwen2AudioForConditionalGeneration(config)


def _audioflamingo3():
    config = T.AudioFlamingo3Config(
        audio_config=_ears("audioflamingo3", "AudioFlamingo3"),
        text_config=text_config(T.Qwen2Config),
        audio_token_id=AUDIO,
    )
    return T.AudioFlamingo3ForConditionalGeneration(config)


def _musicflamingo():
    config = T.MusicFlamingoConfig(
        audio_config=_ears("audioflamingo3", "AudioFlamingo3"),
        text_config=text_config(T.Qwen2Config),
        audio_token_id=AUDIO,
        audio_bos_token_id=VOCABULARY.index("<boi>"),
        audio_eos_token_id=VOCABULARY.index("<eoi>"),
    )
    return T.MusicFlamingoForConditionalGeneration(config)


def _glmasr():
    ears = _ears("glmasr", "GlmAsr", positions="max_position_embeddings", intermediate_size=96)
    config = T.GlmAsrConfig(audio_config=ears, text_config=text_config(T.LlamaConfig), audio_token_id=AUDIO)
    return T.GlmAsrForConditionalGeneration(config)


_BUILD = {
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "idefics3": _idefics3,
    "gemma3": _gemma3,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "glm4v": _glm4v,
    "mistral3": _mistral3,
    "qwen2_audio": _qwen2_audio,
    "audioflamingo3": _audioflamingo3,
    "musicflamingo": _musicflamingo,
    "glmasr": _glmasr,
}


def processor(family: str):
    """The family's own processor around the tiny tokenizer, of the families that need no torchvision."""
    return _PROCESSOR[family](tokenizer())


def _square(cls, **settings):
    side = {"height": SIDE, "width": SIDE}
    return cls(**({"size": side, "crop_size": side, "do_center_crop": False} | settings))


def _ear():
    """32 frames of 10 ms."""
    made = T.WhisperFeatureExtractor(feature_size=MELS, sampling_rate=RATE, hop_length=160, chunk_length=1, n_fft=400)
    made.n_samples, made.nb_max_frames = 32 * 160, 32
    return made


def _gemma3_processor(words):
    names = {"image": "<image>", "boi": "<boi>", "eoi": "<eoi>"}
    for name, token in names.items():
        setattr(words, f"{name}_token", token)
        setattr(words, f"{name}_token_id", VOCABULARY.index(token))
    return T.Gemma3Processor(_square(T.Gemma3ImageProcessorPil), words, image_seq_length=4)


_PROCESSOR = {
    "llava": lambda words: T.LlavaProcessor(
        image_processor=_square(T.CLIPImageProcessorPil),
        tokenizer=words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    ),
    "llava_next": lambda words: T.LlavaNextProcessor(
        image_processor=_square(T.LlavaNextImageProcessorPil, image_grid_pinpoints=[[28, 56], [56, 28], [56, 56]]),
        tokenizer=words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    ),
    "idefics3": lambda words: T.Idefics3Processor(
        T.Idefics3ImageProcessorPil(size={"longest_edge": 4 * SIDE}, max_image_size={"longest_edge": 2 * SIDE}),
        words,
        image_seq_len=4,
    ),
    "gemma3": _gemma3_processor,
    "qwen2_audio": lambda words: T.Qwen2AudioProcessor(
        _ear(), words, audio_token="<audio>", audio_bos_token="<boi>", audio_eos_token="<eoi>"
    ),
    "audioflamingo3": lambda words: T.AudioFlamingo3Processor(_ear(), words, audio_token="<audio>"),
    "musicflamingo": lambda words: T.MusicFlamingoProcessor(
        _ear(), words, audio_token="<audio>", audio_bos_token="<boi>", audio_eos_token="<eoi>"
    ),
    "glmasr": lambda words: T.GlmAsrProcessor(_ear(), words, audio_token="<audio>"),
}


def picture(seed: int = 0, height: int = SIDE, width: int = SIDE) -> Image.Image:
    """Noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def sound(seed: int = 0, seconds: float = 0.32) -> np.ndarray:
    """Noise."""
    return np.random.default_rng(seed).normal(size=round(seconds * RATE)).astype(np.float32)


WITH_PROCESSOR = tuple(_PROCESSOR)
WRITTEN = {"gemma3": "<boi>"}
"""What a text has in the place of a picture, where it is not "<image>"."""


def prompt(family: str, seed: int = 0, question: str = "What is this ?") -> Prompt:
    """A question after a picture or sound, by the processor or as it would make it."""
    if family not in WITH_PROCESSOR:
        return _by_hand(family, seed, question)
    kind = "audio" if family in SOUND else "image"
    given = {"audio": sound(seed)} if kind == "audio" else {"images": picture(seed)}
    return Prompt.from_processor(processor(family), text=f"{WRITTEN.get(family, f'<{kind}>')} {question}", **given)


def _by_hand(family: str, seed: int, question: str) -> Prompt:
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    patches = torch.randn(8, 3 * 2 * PATCH * PATCH, generator=torch.Generator().manual_seed(seed))
    grid = {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, 2, 4]])}
    count, inputs = {
        "llava_onevision": (
            10,  # four of the whole picture, four in full resolution, two newlines
            {
                "pixel_values": torch.stack([pixels, pixels, -pixels], 1),
                "image_sizes": torch.tensor([[SIDE, SIDE]]),
                "batch_num_images": torch.tensor([1]),
            },
        ),
        "mistral3": (4, {"pixel_values": pixels.repeat(1, 1, 2, 2), "image_sizes": torch.tensor([[56, 56]])}),
        "qwen2_5_vl": (2, grid),
        "qwen3_vl": (2, grid),
        "glm4v": (2, grid),
    }[family]
    ids = [IMAGE] * count + tokenizer()(question, add_special_tokens=False)["input_ids"]
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (torch.tensor([ids]) == IMAGE).long()
    span = tuple(range(count))
    return Prompt.from_ids(ids, spans={"image": span, "image:0": span}, media=Media(inputs))
